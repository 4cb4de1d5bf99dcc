/** After this long without a sample neither the 16 bits nor the drift of two clocks say anything. */
const QUIET_MS = 20_000;
/** Later than usual by more than this: another clock, or a stall after which old motion is of no use. */
const LATE_MS_MAX = 1_000;
/** Nothing comes earlier than usual by this much, unless the clock is another one. */
const EARLY_MS_MAX = 250;
/** The same soon after a clock was set by one sample, which may be the first of many that had to wait. */
const EARLY_MS_MAX_UNSURE = 30;
const UNSURE_MS = 1_000;
/** No page is loaded anew in less. */
const RELOAD_MS = 250;
/** So many samples in a row, each later than the one before it and all too old: the clock was set back. */
const OLD_MAX = 3;

/**
 * Puts the 16-bit stamps of one sender on the receiver's clock, give or take a constant that nobody
 * knows: the stamp of a sample that was as long under way as usual becomes its arrival less `usual_ms`.
 */
export class SenderClock {
  #stamp = 0;
  #time_ms = -Infinity;
  #arrived_ms = -Infinity;
  #anchored_ms = -Infinity;
  #old = 0;
  #old_stamp = 0;

  /**
   * When a sample was taken, always after the one before it; `null` for one that is older.
   *
   * `usual_ms`: how late samples of this sender usually are by this clock.
   */
  place(stamp: number, now_ms: number, usual_ms: number): number | null {
    const step_ms = between(this.#stamp, stamp);
    const time_ms = this.#time_ms + step_ms;
    const late_ms = now_ms - time_ms - usual_ms;
    const early_ms_max = now_ms - this.#anchored_ms < UNSURE_MS ? EARLY_MS_MAX_UNSURE : EARLY_MS_MAX;
    const passed_ms = now_ms - this.#arrived_ms;
    const known = passed_ms <= QUIET_MS && late_ms <= LATE_MS_MAX && late_ms >= -early_ms_max;
    if (step_ms < 0 && (known || passed_ms < RELOAD_MS) && !this.#setBack(stamp)) return null;
    // Equal stamps are for the caller to tell apart: a repetition, or a sender without a clock.
    if (!known || step_ms <= 0) return this.#anchor(stamp, now_ms, usual_ms);
    return this.#set(stamp, time_ms, now_ms);
  }

  #setBack(stamp: number): boolean {
    this.#old = this.#old > 0 && between(this.#old_stamp, stamp) > 0 ? this.#old + 1 : 1;
    this.#old_stamp = stamp;
    return this.#old >= OLD_MAX;
  }

  #anchor(stamp: number, now_ms: number, usual_ms: number): number {
    // The first sample of all is nothing to be wrong about.
    if (this.#arrived_ms > -Infinity) this.#anchored_ms = now_ms;
    return this.#set(stamp, Math.max(now_ms - usual_ms, this.#time_ms + 1), now_ms);
  }

  #set(stamp: number, time_ms: number, now_ms: number): number {
    this.#stamp = stamp;
    this.#time_ms = time_ms;
    this.#arrived_ms = now_ms;
    this.#old = 0;
    return time_ms;
  }
}

/** From one 16-bit stamp to another the short way around, −32,768 to 32,767. */
function between(from: number, to: number): number {
  return ((to - from) << 16) >> 16;
}
