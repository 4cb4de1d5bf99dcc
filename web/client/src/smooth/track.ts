import { SenderClock } from "./clock";
import { JitterBuffer } from "./jitter";
import type { Sampled } from "./sample";
import type { Between } from "./smoother";

/** Samples that are kept: 0.5 s of the fastest sender, more than is ever waited for. */
const KEPT = 32;
/** Old motion beyond this is skipped, not replayed. */
const BEHIND_MS_MAX = 300;
/** The head is brought to where it should be within about this time, */
const CATCH_UP_MS = 80;
/** and moves no slower and no faster than these shares of time. */
const SLOWEST = 0.5;
const FASTEST = 2;
/** As much of the way to a sample that is overdue after a pause is drawn. */
const OVERDUE_MS = 150;
/** A sender that says nothing for this long, and for so many of its intervals, stood still. */
const IDLE_MS = 150;
const IDLE_INTERVALS = 2.5;
/** Until a sender's interval is known; and what is believed of one. */
const INTERVAL_MS = 33;
const INTERVAL_MS_MIN = 8;
const INTERVAL_MS_MAX = 250;
/** A gap moves the estimate by this share of it, whatever the gap is: a median, which pauses do not move. */
const INTERVAL_STEP = 1 / 16;
/** Longer gaps are not waited for: a hand that hardly moves is not a network that is late. */
const WAIT_INTERVALS = 2;

/**
 * One cursor: its last samples, and a head that moves along them some way behind the newest.
 *
 * All times are the receiver's. The head runs at the speed of time; it is slowed down and sped up
 * towards `now − delay`, waits at the newest sample, and never goes back.
 */
export class Track {
  readonly #clock = new SenderClock();
  readonly #jitter = new JitterBuffer();
  readonly #samples: Sampled[] = [];
  readonly #times_ms: number[] = [];
  /** Those that are jumped to. */
  readonly #far: boolean[] = [];
  #interval_ms = INTERVAL_MS;
  #head_ms = 0;
  #now_ms = 0;
  #drawn = false;
  /** Given out again and again: hundreds of cursors in each frame should leave no garbage. */
  readonly #between: { from: Sampled; to: Sampled; share: number; moving: boolean };

  constructor(first: Sampled, now_ms: number) {
    this.#now_ms = now_ms;
    this.#head_ms = this.#clock.place(first.time_ms, now_ms, 0) ?? now_ms;
    this.#push(first, this.#head_ms, false);
    this.#between = { from: first, to: first, share: 0, moving: false };
  }

  add(sample: Sampled, now_ms: number, far: (a: Sampled, b: Sampled) => boolean): void {
    const last = this.#samples.length - 1;
    const newest = this.#samples[last]!;
    const newest_ms = this.#times_ms[last]!;
    if (sample.time_ms === newest.time_ms && sample.x === newest.x && sample.y === newest.y) return;
    const time_ms = this.#clock.place(sample.time_ms, now_ms, this.#jitter.usual_ms);
    if (time_ms === null) return;
    this.advance(now_ms);
    const gap_ms = time_ms - newest_ms;
    const idle = gap_ms > Math.max(IDLE_MS, IDLE_INTERVALS * this.#interval_ms);
    this.#measure(now_ms - time_ms, gap_ms, idle);
    if (idle) this.#wait(newest, time_ms, gap_ms);
    this.#push(sample, time_ms, far(newest, sample));
  }

  /** Where it is now; the same object each time. */
  at(now_ms: number, smooth: boolean): Between {
    this.advance(now_ms);
    const last = this.#samples.length - 1;
    if (!smooth) this.#head_ms = this.#times_ms[last]!;
    let next = 0;
    while (next < last && this.#times_ms[next]! <= this.#head_ms) next++;
    const one = this.#between;
    const to_ms = this.#times_ms[next]!;
    const from_ms = this.#times_ms[Math.max(0, next - 1)]!;
    one.moving = this.#head_ms < this.#times_ms[last]!;
    one.from = this.#samples[Math.max(0, next - 1)]!;
    one.to = this.#samples[next]!;
    one.share = this.#head_ms >= to_ms ? 1 : this.#far[next] ? 0 : (this.#head_ms - from_ms) / (to_ms - from_ms);
    if (!one.moving) one.from = one.to;
    this.#drawn = !one.moving;
    return one;
  }

  /** There is a position that `at` has not given yet. */
  get moving(): boolean {
    return !this.#drawn;
  }

  advance(now_ms: number): void {
    const passed_ms = now_ms - this.#now_ms;
    if (!(passed_ms > 0)) return;
    this.#now_ms = now_ms;
    const newest_ms = this.#times_ms[this.#times_ms.length - 1]!;
    const goal_ms = Math.min(now_ms - this.#jitter.delay_ms, newest_ms);
    const behind_ms = goal_ms - (this.#head_ms + passed_ms);
    const change_ms = behind_ms * (1 - Math.exp(-passed_ms / CATCH_UP_MS));
    this.#head_ms += Math.max(SLOWEST * passed_ms, Math.min(FASTEST * passed_ms, passed_ms + change_ms));
    this.#head_ms = Math.min(newest_ms, Math.max(this.#head_ms, newest_ms - BEHIND_MS_MAX));
  }

  #measure(late_ms: number, gap_ms: number, idle: boolean): void {
    const usual_ms = this.#interval_ms;
    this.#jitter.add(late_ms, idle ? usual_ms : Math.min(gap_ms, WAIT_INTERVALS * usual_ms), usual_ms);
    const interval_ms = usual_ms * (1 + Math.sign(gap_ms - usual_ms) * INTERVAL_STEP);
    this.#interval_ms = Math.max(INTERVAL_MS_MIN, Math.min(INTERVAL_MS_MAX, interval_ms));
  }

  /**
   * It stood where it is, and now moves: from now until the sample is due, for one interval at least. One
   * that is overdue may be the first after a stall as well as after a pause, and is far away then.
   */
  #wait(newest: Sampled, time_ms: number, gap_ms: number): void {
    const due_ms = this.#now_ms - this.#jitter.delay_ms;
    const move_ms = due_ms > time_ms ? OVERDUE_MS : Math.max(Math.min(OVERDUE_MS, this.#interval_ms), time_ms - due_ms);
    const from_ms = time_ms - Math.min(gap_ms, move_ms);
    this.#push(newest, from_ms, false);
    this.#head_ms = Math.max(this.#head_ms, Math.min(due_ms, from_ms));
  }

  #push(sample: Sampled, time_ms: number, far: boolean): void {
    this.#drawn = false;
    this.#samples.push(sample);
    this.#times_ms.push(time_ms);
    this.#far.push(far);
    while (this.#samples.length > KEPT || (this.#samples.length > 2 && this.#times_ms[1]! <= this.#head_ms)) {
      this.#samples.shift();
      this.#times_ms.shift();
      this.#far.shift();
    }
    this.#head_ms = Math.max(this.#head_ms, this.#times_ms[0]!);
  }
}
