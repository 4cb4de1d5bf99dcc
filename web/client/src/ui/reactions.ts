import type { Overlay, Room, Unsubscribe } from "../api";
import type { Point, Reaction, Reactions } from "./api";
import { Handlers } from "./handlers";
import { OverlayCore, overlayOf } from "./overlay";
import { EMOJI_BYTES_MAX, REACTION, type ReactionData, reactionOf } from "./sparks";
import { bytes } from "./text";

/** Reactions at the own cursor. The overlay draws them, this page's own as they come back. */
export class ReactionLane<State> implements Reactions<State> {
  readonly #handlers = new Handlers<Reaction<State>>();
  readonly #overlay: OverlayCore;
  /** Made for the reactions alone. */
  readonly #made: boolean;
  readonly #end: Unsubscribe;

  constructor(
    private readonly room: Room<State>,
    where: Overlay | Element,
  ) {
    const plain = room as unknown as Room;
    const found = where instanceof Element ? overlayOf(plain, where) : where;
    this.#made = found === null;
    this.#overlay = found instanceof OverlayCore ? found : new OverlayCore(plain, where as Element, { track: false, announce: false });
    this.#end = room.events.on(REACTION, ({ data, member, self }) => {
      const reaction = reactionOf(data);
      if (reaction) this.#handlers.tell({ ...reaction, member, self });
    });
  }

  send(emoji: string, at: Point | null = this.#overlay.own): boolean {
    if (typeof emoji !== "string" || emoji === "" || bytes(emoji) > EMOJI_BYTES_MAX || !at) return false;
    const data: ReactionData = { emoji, x: at.x, y: at.y };
    return this.room.events.send(REACTION, data);
  }

  on(fn: (reaction: Reaction<State>) => void): Unsubscribe {
    return this.#handlers.on(fn);
  }

  stop(): void {
    this.#end();
    this.#handlers.clear();
    if (this.#made) this.#overlay.stop();
  }
}
