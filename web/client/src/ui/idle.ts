import type { Room, Unsubscribe } from "../api";
import type { Idle, IdleOptions } from "./api";
import { Handlers } from "./handlers";
import { onEnd, setOwn } from "./own";

const AFTER_MS = 60_000;

/** Tells the others while nobody is at this page: no input for a while, or its tab is hidden. */
export class IdleWatch implements Idle {
  readonly #handlers = new Handlers<boolean>();
  readonly #stop = new AbortController();
  readonly #after_ms: number;
  readonly #ended: Unsubscribe;
  #idle = false;
  #active_at = performance.now();
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly room: Room,
    { after_ms = AFTER_MS }: IdleOptions,
  ) {
    this.#after_ms = after_ms;
    const options = { passive: true, capture: true, signal: this.#stop.signal };
    for (const name of ["pointermove", "pointerdown", "keydown", "wheel", "touchstart", "focus"]) {
      addEventListener(name, () => this.#active(), options);
    }
    document.addEventListener("visibilitychange", () => (hidden() ? this.#set(true) : this.#active()), options);
    this.#ended = onEnd(room, () => this.stop());
    if (hidden()) this.#set(true);
    else this.#active();
  }

  get idle(): boolean {
    return this.#idle;
  }

  on(fn: (idle: boolean) => void): Unsubscribe {
    return this.#handlers.on(fn);
  }

  stop(): void {
    this.#stop.abort();
    this.#ended();
    clearTimeout(this.#timer);
    this.#set(false);
    this.#handlers.clear();
  }

  #active(): void {
    this.#active_at = performance.now();
    this.#set(false);
    this.#timer ??= setTimeout(() => this.#look(), this.#after_ms);
  }

  /** One timer for any number of inputs: it looks how long ago the last one was. */
  #look(): void {
    this.#timer = undefined;
    const left_ms = this.#active_at + this.#after_ms - performance.now();
    if (left_ms <= 0) this.#set(true);
    else this.#timer = setTimeout(() => this.#look(), left_ms);
  }

  #set(idle: boolean): void {
    if (idle === this.#idle) return;
    this.#idle = idle;
    setOwn(this.room, { idle: idle || undefined });
    this.#handlers.tell(idle);
  }
}

function hidden(): boolean {
  return document.visibilityState === "hidden";
}
