import type { Member } from "../api";
import { personOf } from "./announce";
import { ownOf } from "./own";

/** A person in the room, however many tabs. */
export interface Face {
  readonly person: string;
  /** The one that stands for all of them: the oldest. */
  readonly member: Member;
  readonly self: boolean;
  /** None of the tabs has anybody at it. */
  readonly dim: boolean;
  /** When the last one left, on the caller's clock; `null` for who is here. */
  readonly left_at: number | null;
}

/**
 * The people in a room: this page's own first, then by when they came. Who left stays in `before` for
 * `grace_ms`, where it was.
 */
export function facesOf(members: readonly Member[], self: Member | null, before: readonly Face[], now_ms: number, grace_ms: number): Face[] {
  const faces = new Map<string, Face>();
  const mine = self && personOf(self);
  for (const member of [...(self ? [self] : []), ...members].sort(older)) {
    const person = personOf(member);
    const away = member.id !== self?.id && (member.away || ownOf(member).idle === true);
    const found = faces.get(person);
    faces.set(person, found ? { ...found, dim: found.dim && away } : { person, member, self: person === mine, dim: away, left_at: null });
  }
  for (const face of before) {
    const left_at = face.left_at ?? now_ms;
    if (!faces.has(face.person) && !face.self && now_ms - left_at < grace_ms) faces.set(face.person, { ...face, left_at });
  }
  return [...faces.values()].sort((a, b) => Number(b.self) - Number(a.self) || older(a.member, b.member));
}

function older(a: Member, b: Member): number {
  return a.joined_at - b.joined_at || (a.id < b.id ? -1 : a.id > b.id ? 1 : 0);
}
