import type { Unsubscribe } from "./api";

/**
 * Handlers by event name. A handler that throws is reported and harms no other. One that is added or
 * removed while an event is told counts from the next one.
 */
export class Emitter<Events extends object> {
  readonly #handlers = new Map<keyof Events, Set<{ fn: (event: never) => void }>>();

  constructor(private readonly report: (error: unknown) => void) {}

  on<Name extends keyof Events>(name: Name, fn: (event: Events[Name]) => void): Unsubscribe {
    let handlers = this.#handlers.get(name);
    if (!handlers) this.#handlers.set(name, (handlers = new Set()));
    // A record of its own, so that one function may be added twice and taken away once.
    const handler = { fn };
    handlers.add(handler);
    return () => {
      handlers.delete(handler);
    };
  }

  emit<Name extends keyof Events>(name: Name, event: Events[Name]): void {
    for (const handler of [...(this.#handlers.get(name) ?? [])]) {
      try {
        (handler.fn as (event: Events[Name]) => void)(event);
      } catch (error) {
        this.report(error);
      }
    }
  }
}
