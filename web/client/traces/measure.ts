import type { Frame } from "./display";
import type { Arrival } from "./path";
import { follower, type Trace } from "./trace";

/** Lags that are tried. */
const LAG_MS_MAX = 1_280;

/** Of one display, one run or several. Lengths in CSS pixels, times in milliseconds, all sorted. */
export interface Measured {
  /** From each frame to the next; frames in which nothing moved left out. */
  readonly jumps_px: readonly number[];
  /** Of each sample that arrived: from its arrival to the first frame that reached or passed it. */
  readonly delays_ms: readonly number[];
}

export function measure(arrivals: readonly Arrival[], frames: readonly Frame[]): Measured {
  const jumps_px: number[] = [];
  for (let i = 1; i < frames.length; i++) {
    const one = frames[i - 1]!.shown;
    const two = frames[i]!.shown;
    const jump = Math.hypot(two.x - one.x, two.y - one.y);
    if (jump > 0) jumps_px.push(jump);
  }
  const delays_ms: number[] = [];
  let frame = 0;
  for (const { sample, at_ms } of arrivals) {
    while (frame < frames.length && (frames[frame]!.now_ms < at_ms || frames[frame]!.shown.reached_ms < sample.t_ms)) frame++;
    // One that is never reached must not go unseen.
    delays_ms.push(frame < frames.length ? frames[frame]!.now_ms - at_ms : Infinity);
  }
  return { jumps_px: sorted(jumps_px), delays_ms: sorted(delays_ms) };
}

/** Several runs as one. */
export function pool(runs: readonly Measured[]): Measured {
  return { jumps_px: sorted(runs.flatMap((run) => run.jumps_px)), delays_ms: sorted(runs.flatMap((run) => run.delays_ms)) };
}

/** Of the pointer itself, if a screen showed it at once. */
export function trueJumps(trace: Trace): number[] {
  const where = follower(trace);
  const jumps: number[] = [];
  let before = where(0);
  for (let t = 0; t < trace.moves[trace.moves.length - 1]!.t_ms; t += 1_000 / 60) {
    const here = where(t);
    if (here !== before) jumps.push(Math.hypot(here.x - before.x, here.y - before.y));
    before = here;
  }
  return sorted(jumps);
}

/** How near a display keeps to the true path as it was a while before. */
export interface Nearest {
  /** From the true path to the screen: where `rms_px` is least. */
  readonly lag_ms: number;
  /** The distance, root of the mean square. */
  readonly rms_px: number;
}

export function nearest(trace: Trace, frames: readonly Frame[]): Nearest {
  const coarse = best(trace, frames, 0, LAG_MS_MAX, 32);
  return best(trace, frames, Math.max(0, coarse.lag_ms - 32), coarse.lag_ms + 32, 4);
}

function best(trace: Trace, frames: readonly Frame[], from_ms: number, to_ms: number, step_ms: number): Nearest {
  let found = { rms_px: Infinity, lag_ms: NaN };
  for (let lag_ms = from_ms; lag_ms <= to_ms; lag_ms += step_ms) {
    const rms_px = error(trace, frames, lag_ms);
    if (rms_px < found.rms_px) found = { rms_px, lag_ms };
  }
  return found;
}

function error(trace: Trace, frames: readonly Frame[], lag_ms: number): number {
  const where = follower(trace);
  let sum = 0;
  for (const { now_ms, shown } of frames) {
    const truth = where(now_ms - lag_ms);
    sum += (shown.x - truth.x) ** 2 + (shown.y - truth.y) ** 2;
  }
  return Math.sqrt(sum / frames.length);
}

/** Of sorted numbers; `share` from 0 to 1. */
export function quantile(numbers: readonly number[], share: number): number {
  return numbers[Math.min(numbers.length - 1, Math.floor(share * numbers.length))] ?? NaN;
}

function sorted(numbers: number[]): number[] {
  return numbers.sort((a, b) => a - b);
}
