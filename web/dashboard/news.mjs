// Sentences for those who listen instead of looking: one at a time, and not faster than one can hear.

export const SENTENCE_EVERY_MS = 2000;

/** Collects sentences; `due` gives the next one to say, at most one in every two seconds. */
export class News {
  #waiting = [];
  #said_at = -Infinity;

  add(sentences) {
    this.#waiting.push(...sentences);
  }

  due(now) {
    if (!this.#waiting.length || now - this.#said_at < SENTENCE_EVERY_MS) return null;
    const [first, ...rest] = this.#waiting;
    this.#waiting = [];
    this.#said_at = now;
    return rest.length ? `${first}, and ${rest.length} more in the log.` : `${first}.`;
  }
}
