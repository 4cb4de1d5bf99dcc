import type { Unsubscribe } from "../api";

/** Handlers of one event; one that throws is reported and harms no other. */
export class Handlers<Event> {
  readonly #all = new Set<{ fn: (event: Event) => void }>();

  on(fn: (event: Event) => void): Unsubscribe {
    const handler = { fn };
    this.#all.add(handler);
    return () => {
      this.#all.delete(handler);
    };
  }

  tell(event: Event): void {
    for (const { fn } of [...this.#all]) {
      try {
        fn(event);
      } catch (error) {
        reportError(error);
      }
    }
  }

  clear(): void {
    this.#all.clear();
  }
}
