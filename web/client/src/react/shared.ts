import type { Unsubscribe } from "../api";

/**
 * A thing that is made for its first holder and dropped a moment after its last one let go: whoever lets
 * go and takes hold again at once, as React's StrictMode does, has the same one.
 */
export class Shared<Thing> {
  #thing: Thing | null = null;
  #holders = 0;
  /** What was attached, and how the attachment to the present thing ends. */
  readonly #attached = new Map<object, { with: (thing: Thing) => Unsubscribe; end: Unsubscribe | null }>();

  constructor(
    private readonly make: () => Thing,
    private readonly drop: (thing: Thing) => void,
  ) {}

  /** `null` while nobody holds it. */
  get thing(): Thing | null {
    return this.#thing;
  }

  /** Takes hold of it; the second result lets go. Throws what making it throws. */
  hold(): [thing: Thing, release: Unsubscribe] {
    const thing = this.#thing ?? this.#made();
    this.#holders += 1;
    let held = true;
    const release = () => {
      if (!held) return;
      held = false;
      this.#holders -= 1;
      if (this.#holders === 0) setTimeout(() => this.#unheld(), 0);
    };
    return [thing, release];
  }

  /** Calls `fn` with the thing, now or once it is there, and what `fn` gives when it is no more. */
  attach(fn: (thing: Thing) => Unsubscribe): Unsubscribe {
    const key = {};
    this.#attached.set(key, { with: fn, end: this.#thing === null ? null : fn(this.#thing) });
    return () => {
      const one = this.#attached.get(key);
      this.#attached.delete(key);
      one?.end?.();
    };
  }

  /** It is over by itself: there is none any more, until somebody takes hold of it again. */
  lose(thing: Thing): void {
    if (this.#thing !== thing) return;
    this.#thing = null;
    for (const one of [...this.#attached.values()]) {
      const { end } = one;
      one.end = null;
      end?.();
    }
    this.drop(thing);
  }

  #made(): Thing {
    const thing = this.make();
    this.#thing = thing;
    for (const one of [...this.#attached.values()]) one.end = one.with(thing);
    return thing;
  }

  #unheld(): void {
    if (this.#holders === 0 && this.#thing !== null) this.lose(this.#thing);
  }
}
