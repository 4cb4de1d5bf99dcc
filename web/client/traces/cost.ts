import { Smoother } from "../src/smooth/smoother";

const CURSORS = 200;
const FRAMES = 3_000;

/** Microseconds per animation frame of a full room: a sample of each cursor, and each drawn. By the clock on the wall. */
export function frameCost_us(): { add: number; at: number } {
  const smoother = new Smoother<number>();
  const cost = { add: 0, at: 0 };
  for (let frame = 0; frame < FRAMES; frame++) {
    const now_ms = (frame * 1_000) / 60;
    const start = performance.now();
    for (let id = 0; id < CURSORS; id++) smoother.add(id, { x: frame + id, y: frame, time_ms: Math.floor(now_ms) & 0xffff }, now_ms);
    const added = performance.now();
    for (let id = 0; id < CURSORS; id++) smoother.at(id, now_ms);
    cost.add += added - start;
    cost.at += performance.now() - added;
  }
  return { add: (cost.add * 1_000) / FRAMES, at: (cost.at * 1_000) / FRAMES };
}
