/** Who is in a room: pure functions over the members and what arrives. */
import type { LeaveReason, Member } from "./api";
import type { WireMember } from "./protocol";

export type Members = ReadonlyMap<string, WireMember>;

export type Change =
  | { type: "joined"; member: WireMember }
  | { type: "updated"; member: WireMember; before: WireMember }
  | { type: "left"; member: WireMember; reason: LeaveReason };

/** What a complete list changes: who is not in it left while nobody looked. */
export function applySnapshot(members: Members, list: readonly WireMember[]): [Members, Change[]] {
  const next = new Map(list.map((member) => [member.id, member]));
  const changes: Change[] = [];
  for (const member of members.values()) {
    if (!next.has(member.id)) changes.push({ type: "left", member, reason: "unknown" });
  }
  for (const member of next.values()) next.set(member.id, put(members, member, changes));
  return [next, changes];
}

/**
 * What a diff changes. Leaves come first, so that a member that is in two lists stays; joins of those
 * that are known, and updates of those that are not, count as what they turn out to be.
 */
export function applyDiff(
  members: Members,
  left: readonly { id: string; reason: LeaveReason }[],
  changed: readonly WireMember[],
): [Members, Change[]] {
  const next = new Map(members);
  const changes: Change[] = [];
  for (const { id, reason } of left) {
    const member = next.get(id);
    if (member && next.delete(id)) changes.push({ type: "left", member, reason });
  }
  for (const member of changed) next.set(member.id, put(next, member, changes));
  return [next, changes];
}

/** Notes the change; the member to keep is the one from before if nothing changed. */
function put(members: Members, member: WireMember, changes: Change[]): WireMember {
  const before = members.get(member.id);
  if (!before) changes.push({ type: "joined", member });
  else if (!same(before, member)) changes.push({ type: "updated", member, before });
  else if (before.alias === member.alias) return before;
  return member;
}

/** Whether a page would see no difference; the alias is none of its business. */
function same(a: WireMember, b: WireMember): boolean {
  const text = ({ user, state, node, joined_at, away }: WireMember) =>
    JSON.stringify([user.id, user.name, user.color, state, node, joined_at, away]);
  return text(a) === text(b);
}

/** Oldest first; the order never changes while a member stays. */
export function inOrder(members: Iterable<WireMember>): WireMember[] {
  return [...members].sort((a, b) => a.joined_at - b.joined_at || (a.id < b.id ? -1 : 1));
}

/** What a page gets to see of a member. */
export function publicMember({ id, user, state, node, joined_at, away }: WireMember): Member<never> {
  return { id, user, state: state as null, node, joined_at, away };
}
