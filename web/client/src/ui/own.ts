import type { Member, Room, Unsubscribe } from "../api";
import type { View } from "./api";
import { NAME_MAX, SLOT_MAX } from "./slots";

/**
 * What these helpers keep in a member's state, under the key `cursormesh`; each field may be missing.
 * It comes from strangers: `ownOf` leaves out what is not as it should be.
 */
export interface Own {
  /** The anchor that positions in this slot are relative to. */
  readonly anchor?: readonly [slot: number, name: string];
  /** The pointer is a finger. */
  readonly touch?: true;
  /** Nobody is at the keyboard. */
  readonly idle?: true;
  /** What the member says. */
  readonly chat?: string;
  /** The id of the member that this one follows. */
  readonly follow?: string;
  /** What the member sees; told while somebody follows. */
  readonly view?: View;
}

const KEY = "cursormesh";
const NONE: Own = {};
/** A text longer than this is nobody's chat. */
const CHAT_UNITS_MAX = 2_000;
const known = new WeakMap<object, Own>();

/** What a member's state says to these helpers. */
export function ownOf(member: Member): Own {
  const { state } = member as Member<unknown>;
  if (!isObject(state)) return NONE;
  let own = known.get(state);
  if (!own) known.set(state, (own = parse(state[KEY])));
  return own;
}

const over = new WeakSet<Room>();

/** Calls `fn` when the room is over; its state is not set any more then. */
export function onEnd(room: Room, fn: () => void): Unsubscribe {
  return room.on("ended", () => {
    over.add(room);
    fn();
  });
}

/** Changes fields of the own state and leaves the others as they are; `undefined` takes one away. */
export function setOwn(room: Room, change: { readonly [Name in keyof Own]?: Own[Name] | undefined }): void {
  if (over.has(room)) return;
  const before = (room.me.state as Record<string, unknown>)[KEY];
  const fields: Record<string, unknown> = { ...(isObject(before) ? before : {}), ...change };
  for (const [name, value] of Object.entries(fields)) if (value === undefined) delete fields[name];
  if (!isObject(before) && Object.keys(fields).length === 0) return;
  room.me.set({ [KEY]: Object.keys(fields).length > 0 ? fields : undefined });
}

function parse(value: unknown): Own {
  if (!isObject(value)) return NONE;
  const { anchor, chat, follow, view } = value;
  return {
    ...(isAnchor(anchor) && { anchor }),
    ...(value.touch === true && { touch: true }),
    ...(value.idle === true && { idle: true }),
    ...(typeof chat === "string" && chat.length <= CHAT_UNITS_MAX && { chat }),
    ...(typeof follow === "string" && { follow }),
    ...(isView(view) && { view }),
  };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isAnchor(value: unknown): value is [number, string] {
  if (!Array.isArray(value) || value.length !== 2) return false;
  const [slot, name]: unknown[] = value;
  return Number.isInteger(slot) && (slot as number) >= 1 && (slot as number) <= SLOT_MAX && typeof name === "string" && name.length <= NAME_MAX;
}

function isView(value: unknown): value is View {
  return Array.isArray(value) && value.length === 4 && value.every((one) => Number.isFinite(one) && Math.abs(one as number) < 1e6);
}
