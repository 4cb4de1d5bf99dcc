import { play, type Display } from "./display";
import type { Arrival } from "./path";
import { follower, type Trace } from "./trace";

/** Of one display and one run. Lengths in CSS pixels, times in milliseconds. */
export interface Measured {
  /** From each frame to the next, sorted; frames in which nothing moved left out. */
  readonly jumps_px: number[];
  /** Of each sample that arrived: from its arrival to the first frame that reached or passed it; sorted. */
  readonly delays_ms: number[];
  /** Distance to the true path as it was `lag_ms` before, root of the mean square. */
  readonly rms_px: number;
  /** From the true path to the screen: where `rms_px` is least. */
  readonly lag_ms: number;
}

export function measure(trace: Trace, arrivals: readonly Arrival[], display: Display): Measured {
  const frames = play(arrivals, display);
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
    while (frame < frames.length && frames[frame]!.shown.reached_ms < sample.t_ms) frame++;
    // One that is never reached must not go unseen.
    delays_ms.push(frame < frames.length ? Math.max(0, frames[frame]!.now_ms - at_ms) : Infinity);
  }
  return { jumps_px: sorted(jumps_px), delays_ms: sorted(delays_ms), ...nearest(trace, frames) };
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

function nearest(trace: Trace, frames: { now_ms: number; shown: { x: number; y: number } }[]): { rms_px: number; lag_ms: number } {
  let best = { rms_px: Infinity, lag_ms: NaN };
  for (let lag_ms = 0; lag_ms <= 400; lag_ms += 4) {
    const where = follower(trace);
    let sum = 0;
    for (const { now_ms, shown } of frames) {
      const truth = where(now_ms - lag_ms);
      sum += (shown.x - truth.x) ** 2 + (shown.y - truth.y) ** 2;
    }
    const rms_px = Math.sqrt(sum / frames.length);
    if (rms_px < best.rms_px) best = { rms_px, lag_ms };
  }
  return best;
}

/** Of sorted numbers; `share` from 0 to 1. */
export function quantile(numbers: readonly number[], share: number): number {
  return numbers[Math.min(numbers.length - 1, Math.floor(share * numbers.length))] ?? NaN;
}

function sorted(numbers: number[]): number[] {
  return numbers.sort((a, b) => a - b);
}
