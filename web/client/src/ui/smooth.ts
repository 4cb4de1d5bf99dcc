import type { CursorEvent, Room, Unsubscribe } from "../api";
import { Smoother } from "../smooth/smoother";
import type { SmoothCursor, SmoothCursors, SmoothOptions } from "./api";
import { sleep, wake } from "./frames";
import { Handlers } from "./handlers";
import { isNowhere } from "./slots";

/** Cursors between their samples, for pages that draw them by themselves. */
export class Smoothed<State> implements SmoothCursors<State> {
  readonly #smoother: Smoother<string>;
  readonly #shown = new Map<string, SmoothCursor<State>>();
  readonly #handlers = new Handlers<readonly SmoothCursor<State>[]>();
  readonly #ends: Unsubscribe[];
  #all: readonly SmoothCursor<State>[] = [];
  #changed = false;

  constructor(room: Room<State>, { smooth = true, jump = Infinity }: SmoothOptions) {
    this.#smoother = new Smoother({ smooth, far: (from, to) => Math.hypot(to.x - from.x, to.y - from.y) > jump });
    this.#ends = [
      room.cursors.on((cursor) => this.#moved(cursor)),
      room.presence.on("updated", ({ member }) => {
        const cursor = this.#shown.get(member.id);
        if (cursor) this.#change(() => this.#shown.set(member.id, { ...cursor, member }));
      }),
      room.presence.on("left", ({ member }) => this.#gone(member.id)),
      room.on("ended", () => this.stop()),
    ];
    for (const cursor of room.cursors.all) this.#moved(cursor);
  }

  get all(): readonly SmoothCursor<State>[] {
    return this.#all;
  }

  on(fn: (cursors: readonly SmoothCursor<State>[]) => void): Unsubscribe {
    return this.#handlers.on(fn);
  }

  stop(): void {
    for (const end of this.#ends) end();
    sleep(this.#frame);
    this.#handlers.clear();
  }

  #moved({ member, x, y, time_ms }: CursorEvent<State>): void {
    if (isNowhere({ x, y })) return this.#gone(member.id);
    this.#smoother.add(member.id, { x, y, time_ms }, performance.now());
    const { x: shown_x = x, y: shown_y = y } = this.#shown.get(member.id) ?? {};
    this.#change(() => this.#shown.set(member.id, { member, x: shown_x, y: shown_y, moving: true }));
  }

  #gone(id: string): void {
    this.#smoother.remove(id);
    if (this.#shown.has(id)) this.#change(() => this.#shown.delete(id));
  }

  #change(make: () => void): void {
    make();
    this.#changed = true;
    wake(this.#frame);
  }

  readonly #frame = (now_ms: number): boolean => {
    for (const [id, cursor] of this.#shown) {
      if (!cursor.moving) continue;
      const between = this.#smoother.at(id, now_ms);
      if (!between) continue;
      const { from, to, share, moving } = between;
      const x = from.x + (to.x - from.x) * share;
      const y = from.y + (to.y - from.y) * share;
      this.#changed = true;
      this.#shown.set(id, { member: cursor.member, x, y, moving });
    }
    if (this.#changed) this.#tell();
    this.#changed = false;
    return this.#smoother.moving(now_ms);
  };

  #tell(): void {
    this.#all = [...this.#shown.values()];
    this.#handlers.tell(this.#all);
  }
}
