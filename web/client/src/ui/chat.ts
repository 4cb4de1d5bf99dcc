import type { Member, Room, Unsubscribe } from "../api";
import type { CursorChat } from "./api";
import { CHAT_MAX } from "./cursor";
import { overlaysOf } from "./overlay";
import { onEnd, ownOf, setOwn } from "./own";
import { shown } from "./text";

/** What nobody adds to for this long is over. */
const QUIET_MS = 12_000;

/** The own words beside the own cursor; overlays draw them, here and on the others' pages. */
export class Chat implements CursorChat {
  readonly #end: Unsubscribe;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(private readonly room: Room) {
    this.#end = onEnd(room, () => clearTimeout(this.#timer));
  }

  say(text: string | null): void {
    clearTimeout(this.#timer);
    const said = text === null ? "" : shown(text, CHAT_MAX);
    setOwn(this.room, { chat: said || undefined });
    if (said) this.#timer = setTimeout(() => this.say(null), QUIET_MS);
    for (const overlay of overlaysOf(this.room)) overlay.showMine();
  }

  of(member: Member): string | null {
    return shown(ownOf(member).chat, CHAT_MAX) || null;
  }

  stop(): void {
    this.say(null);
    this.#end();
  }
}
