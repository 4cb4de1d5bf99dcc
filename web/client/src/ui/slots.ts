/**
 * Positions relative to anchors. `x` of a position is `8 × slot + fraction`: slot 0 is the container's
 * content, the others are anchors, which a sender numbers as it comes to them and names in its state.
 * A position whose slot is not named yet waits; so positions and state may arrive in any order.
 */
import type { Point } from "./api";

export const SLOT_MAX = 63;
/** Code units of an anchor's name. */
export const NAME_MAX = 128;
const WIDTH = 8;
/** Fractions go from this below 0 to the rest of the width above. */
const BELOW = 3.5;

/** Where a cursor is that is nowhere: also what the tutorial's pages take for gone. */
export const NOWHERE: Point = { x: -10_000, y: -10_000 };

export function isNowhere({ x, y }: Point): boolean {
  return x === NOWHERE.x && y === NOWHERE.y;
}

/** A fraction of an anchor, as it is sent. What is farther off than a slot is wide is moved nearer. */
export function encode(slot: number, { x, y }: Point): Point {
  return { x: WIDTH * slot + Math.max(0.1 - BELOW, Math.min(WIDTH - BELOW - 0.1, x)), y };
}

/** The other way; `null` for what is in no slot. */
export function decode({ x, y }: Point): (Point & { readonly slot: number }) | null {
  const slot = Math.floor((x + BELOW) / WIDTH);
  return slot >= 0 && slot <= SLOT_MAX ? { slot, x: x - WIDTH * slot, y } : null;
}

/** The own slots: a name keeps its slot until all others have been used after it. */
export class Slots {
  readonly #slots = new Map<string, number>();
  #last = 0;

  of(name: string): number {
    let slot = this.#slots.get(name);
    if (slot !== undefined) return slot;
    slot = this.#last = (this.#last % SLOT_MAX) + 1;
    for (const [other, its] of this.#slots) if (its === slot) this.#slots.delete(other);
    this.#slots.set(name, slot);
    return slot;
  }
}

/** What others named their slots. */
export class Names {
  readonly #names = new Map<string, Map<number, string>>();

  learn(member: string, [slot, name]: readonly [number, string]): void {
    let names = this.#names.get(member);
    if (!names) this.#names.set(member, (names = new Map()));
    names.set(slot, name);
  }

  of(member: string, slot: number): string | undefined {
    return this.#names.get(member)?.get(slot);
  }

  forget(member: string): void {
    this.#names.delete(member);
  }
}
