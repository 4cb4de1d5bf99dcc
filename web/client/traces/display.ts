/** What draws a cursor, for the table: each gets the same arrivals and is asked at the same frames. */
import { PerfectCursor } from "perfect-cursors";
import { Smoother } from "../src/smooth/smoother";
import type { Arrival, Sent } from "./path";

/** What a screen of 60 Hz shows. */
export interface Shown {
  readonly x: number;
  readonly y: number;
  /** The newest sample that was reached or passed, by its time in the trace. */
  readonly reached_ms: number;
}

export interface Display {
  add(sample: Sent, now_ms: number): void;
  frame(now_ms: number): Shown | null;
}

/** The newest sample, as it arrives. */
export function raw(): Display {
  let newest: Sent | null = null;
  return {
    add: (sample) => (newest = sample),
    frame: () => newest && { x: newest.x, y: newest.y, reached_ms: newest.t_ms },
  };
}

export function ours(): Display {
  const smoother = new Smoother<number>();
  return {
    add: (sample, now_ms) => smoother.add(1, sample, now_ms),
    frame(now_ms) {
      const between = smoother.at(1, now_ms);
      if (!between) return null;
      const from = between.from as Sent;
      const to = between.to as Sent;
      return {
        x: from.x + (to.x - from.x) * between.share,
        y: from.y + (to.y - from.y) * between.share,
        reached_ms: between.share >= 1 ? to.t_ms : from.t_ms,
      };
    },
  };
}

/** npm `perfect-cursors` as its README says: `addPoint` with each position, drawn by its callback. */
export function perfectCursors(): Display {
  const clock = new VirtualClock();
  let shown: { x: number; y: number } | null = null;
  let reached_ms = -Infinity;
  const times = new Map<number[], number>();
  const reach = (point: number[]) => (reached_ms = Math.max(reached_ms, times.get(point) ?? -Infinity));
  const cursor = clock.within(() => {
    const made = new PerfectCursor(([x = 0, y = 0]) => (shown = { x, y }));
    const draw = made.cb;
    made.cb = (point) => {
      draw(point);
      reach(point);
    };
    // It says nowhere which point it has reached: that is when the animation to it ends.
    const animate = made.animateNext;
    made.animateNext = (animation) => {
      animate(animation);
      clock.setTimeout(() => reach(animation.to), animation.duration);
    };
    return made;
  });
  return {
    add(sample, now_ms) {
      clock.pass(now_ms);
      const point = [sample.x, sample.y];
      times.set(point, sample.t_ms);
      clock.within(() => cursor.addPoint(point));
    },
    frame(now_ms) {
      clock.pass(now_ms);
      clock.frame();
      return shown && { ...shown, reached_ms };
    },
  };
}

type Task = () => void;
const borrowed = ["performance", "requestAnimationFrame", "setTimeout", "clearTimeout"] as const;

/** Time for code that takes it from the page's globals, which are this clock's while it runs. */
class VirtualClock {
  #now_ms = 0;
  #id = 0;
  #frames: Task[] = [];
  readonly #timers = new Map<number, { due_ms: number; task: Task }>();

  readonly performance = { now: () => this.#now_ms };
  readonly requestAnimationFrame = (task: Task) => this.#frames.push(task);
  readonly clearTimeout = (id: number) => void this.#timers.delete(id);
  readonly setTimeout = (task: Task, delay_ms: number) => {
    this.#timers.set(++this.#id, { due_ms: this.#now_ms + delay_ms, task });
    return this.#id;
  };

  pass(now_ms: number): void {
    for (;;) {
      let first: [number, { due_ms: number; task: Task }] | null = null;
      for (const one of this.#timers) if (one[1].due_ms <= now_ms && (!first || one[1].due_ms < first[1].due_ms)) first = one;
      if (!first) break;
      this.#timers.delete(first[0]);
      this.#now_ms = Math.max(this.#now_ms, first[1].due_ms);
      this.within(first[1].task);
    }
    this.#now_ms = Math.max(this.#now_ms, now_ms);
  }

  frame(): void {
    const tasks = this.#frames;
    this.#frames = [];
    this.within(() => tasks.forEach((task) => task()));
  }

  within<Result>(run: () => Result): Result {
    const kept = borrowed.map((name) => Object.getOwnPropertyDescriptor(globalThis, name));
    for (const name of borrowed) Object.defineProperty(globalThis, name, { value: this[name], configurable: true, writable: true });
    try {
      return run();
    } finally {
      borrowed.forEach((name, i) => {
        const before = kept[i];
        if (before) Object.defineProperty(globalThis, name, before);
        else Reflect.deleteProperty(globalThis, name);
      });
    }
  }
}

export interface Frame {
  readonly now_ms: number;
  readonly shown: Shown;
}

/** What comes late is waited for. */
const PLAYED_MS = 3_000;

/** Frames of a display while a trace arrives, and a while longer. */
export function play(arrivals: readonly Arrival[], display: Display): Frame[] {
  const frames: Frame[] = [];
  const end_ms = (arrivals[arrivals.length - 1]?.at_ms ?? 0) + PLAYED_MS;
  let next = 0;
  for (let i = 0; ; i++) {
    const now_ms = (i * 1_000) / 60;
    if (now_ms > end_ms) return frames;
    for (; next < arrivals.length && arrivals[next]!.at_ms <= now_ms; next++) display.add(arrivals[next]!.sample, arrivals[next]!.at_ms);
    const shown = display.frame(now_ms);
    if (shown) frames.push({ now_ms, shown });
  }
}
