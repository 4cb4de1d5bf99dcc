import type { Environment } from "./api";
import type { CursorFrame, Sample } from "./frames";

/** Positions in a room: the newest of each member, and who an alias stands for. */
export class CursorTable {
  readonly #aliases = new Map<number, string>();
  readonly #positions = new Map<string, Sample>();

  announce(alias: number, member: string): void {
    this.#aliases.set(alias, member);
  }

  /** Another node, or a new list: aliases mean nothing any more, positions still do. */
  forgetAliases(): void {
    this.#aliases.clear();
  }

  /** A cursor goes with its member. */
  remove(member: string, alias: number): void {
    this.#positions.delete(member);
    if (this.#aliases.get(alias) === member) this.#aliases.delete(alias);
  }

  /** Takes positions in; calls `moved` with each whose alias is known. */
  apply(records: CursorFrame["records"], moved: (member: string, sample: Sample) => void): void {
    for (const { alias, time_ms, x, y } of records) {
      const member = this.#aliases.get(alias);
      if (member === undefined) continue;
      const sample = { time_ms, x, y };
      this.#positions.set(member, sample);
      moved(member, sample);
    }
  }

  get positions(): ReadonlyMap<string, Sample> {
    return this.#positions;
  }
}

/** Milliseconds between two cursor frames of one sender, by members in the room. */
export function interval_ms(members: number): number {
  if (members <= 50) return 16;
  if (members <= 200) return 33;
  return members <= 1_000 ? 66 : 100;
}

/** A sample of now; `null` for what is no position. */
export function sample(env: Pick<Environment, "now">, x: number, y: number): Sample | null {
  if (![x, y].every((one) => Number.isFinite(one) && Number.isFinite(Math.fround(one)))) return null;
  return { time_ms: Math.floor(env.now()) & 0xffff, x, y };
}
