/** Samples that are looked back on: 1 s to 6 s of motion, by the sender's rate. */
const WINDOW = 64;
/** Of so many in the window the next sample may come too late. */
const TOO_LATE = 4;
/** Nothing waits longer than this after the earliest sample, whatever the jitter is, */
const DELAY_MS_MAX = 80;
/** but for senders with longer intervals: what is shorter would move in fits and starts. */
const DELAY_MS_MAX_SLOW = 110;

/**
 * How long to wait before a sample is drawn, from how late the last ones came: as short as it can be
 * for the next sample to be there, nearly always, when the one before it has been reached.
 */
export class JitterBuffer {
  /** Arrival less sample time; only differences mean anything. */
  readonly #late_ms = new Float64Array(WINDOW);
  /** The delay with which each sample would have come in time. */
  readonly #needed_ms = new Float64Array(WINDOW);
  #count = 0;

  /** From a sample's time to when it is to be drawn. */
  delay_ms = 0;
  /** How late samples usually are. */
  usual_ms = 0;

  /** `gap_ms`: from the sample before it, as far as that was motion; `interval_ms`: of the sender, usually. */
  add(late_ms: number, gap_ms: number, interval_ms: number): void {
    const at = this.#count++ % WINDOW;
    this.#late_ms[at] = late_ms;
    this.#needed_ms[at] = late_ms + gap_ms;
    this.#measure(Math.min(DELAY_MS_MAX_SLOW, Math.max(DELAY_MS_MAX, interval_ms)));
  }

  #measure(longest_ms: number): void {
    const count = Math.min(this.#count, WINDOW);
    let sum = 0;
    let earliest = Infinity;
    for (let i = 0; i < count; i++) {
      const late = this.#late_ms[i]!;
      sum += late;
      if (late < earliest) earliest = late;
    }
    this.usual_ms = sum / count;
    this.delay_ms = Math.min(this.#needed(count), earliest + longest_ms);
  }

  /** The greatest need but for the few that are given up; of few samples none is. */
  #needed(count: number): number {
    const skip = Math.floor((TOO_LATE * count) / WINDOW);
    let bound = Infinity;
    let greatest = -Infinity;
    for (let round = 0; round <= skip; round++) {
      greatest = -Infinity;
      for (let i = 0; i < count; i++) {
        const one = this.#needed_ms[i]!;
        if (one < bound && one > greatest) greatest = one;
      }
      if (greatest === -Infinity) return bound;
      bound = greatest;
    }
    return greatest;
  }
}
