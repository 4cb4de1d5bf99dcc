import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import { Smoother, type Between, type Sampled } from "../src/smooth/smoother";
import { conditions, misses } from "../traces/conditions";
import { ours, play, raw } from "../traces/display";
import { measure, pool } from "../traces/measure";
import { traces } from "../traces/motion";
import { deliver } from "../traces/path";
import { decodeTrace, encodeTrace, type Trace } from "../traces/trace";
import { seeded } from "./world";

const FRAME_MS = 1_000 / 60;

/** A smoother with one cursor, and a clock. */
class Screen {
  readonly smoother: Smoother<string>;
  now_ms = 10_000;
  #frame_ms = 10_000;

  constructor(options: ConstructorParameters<typeof Smoother>[0] = {}) {
    this.smoother = new Smoother(options);
  }

  /** A sample that arrives now. */
  add(x: number, time_ms: number): Sampled {
    const sample = { x, y: -x, time_ms: time_ms & 0xffff };
    this.smoother.add("ada", sample, this.now_ms);
    return sample;
  }

  get between(): Between {
    const between = this.smoother.at("ada", this.now_ms);
    assert.ok(between);
    return between;
  }

  get x(): number {
    return place(this.between);
  }

  /** Frames until a time; where the cursor is in each, once there is one. */
  until(end_ms: number): number[] {
    const places: number[] = [];
    for (; this.#frame_ms <= end_ms; this.#frame_ms += FRAME_MS) {
      if (this.#frame_ms < this.now_ms) continue;
      this.now_ms = this.#frame_ms;
      const between = this.smoother.at("ada", this.now_ms);
      if (between) places.push(place(between));
    }
    this.now_ms = Math.max(this.now_ms, end_ms);
    return places;
  }

  /** A sender that moves by 1 px per ms, a sample per `interval_ms`, with frames in between. Returns its last sample's time. */
  stream(start_ms: number, count: number, interval_ms: number, late_ms: (i: number) => number = () => 0): { places: number[]; end_ms: number } {
    const places: number[] = [];
    const from_ms = this.now_ms;
    for (let i = 0; i < count; i++) {
      places.push(...this.until(from_ms + i * interval_ms + late_ms(i)));
      this.add(start_ms + i * interval_ms, start_ms + i * interval_ms);
    }
    return { places, end_ms: start_ms + (count - 1) * interval_ms };
  }
}

function place({ from, to, share }: Between): number {
  return from.x + (to.x - from.x) * share;
}

const steps = (places: number[]) => places.slice(1).map((x, i) => x - places[i]!);

describe("one cursor", () => {
  test("the first sample is shown at once, and nothing more is to be drawn", () => {
    const screen = new Screen();
    const first = screen.add(5, 0);
    assert.equal(screen.smoother.moving(screen.now_ms), true);
    assert.deepEqual({ ...screen.between }, { from: first, to: first, share: 1, moving: false });
    assert.equal(screen.smoother.moving(screen.now_ms), false);
  });

  for (const interval_ms of [16, 33, 66, 100]) {
    test(`a steady sender of ${interval_ms} ms moves evenly, about an interval late`, () => {
      const screen = new Screen();
      const { places, end_ms } = screen.stream(0, 100, interval_ms);
      const even = steps(places.slice(-40));
      assert.ok(Math.max(...even) < 1.4 * FRAME_MS, `${Math.max(...even)}`);
      assert.ok(Math.min(...even) > 0.6 * FRAME_MS, `${Math.min(...even)}`);
      const behind_ms = end_ms - screen.x;
      assert.ok(behind_ms > 0.8 * interval_ms && behind_ms < 1.2 * interval_ms, `${behind_ms}`);
    });
  }

  test("a sender whose rate changes is followed", () => {
    const screen = new Screen();
    const { end_ms } = screen.stream(0, 100, 16);
    const slower = screen.stream(end_ms + 100, 60, 100);
    assert.ok(Math.max(...steps(slower.places.slice(-60))) < 2 * FRAME_MS);
    const faster = screen.stream(slower.end_ms + 16, 200, 16);
    assert.ok(faster.end_ms - screen.x < 40, `${faster.end_ms - screen.x}`);
  });

  test("jitter makes it wait, and less when it is over", () => {
    const screen = new Screen();
    const random = seeded(1);
    const jitter = screen.stream(0, 200, 16, () => 60 * random());
    assert.ok(Math.max(...steps(jitter.places.slice(60))) < 3 * FRAME_MS);
    const waited_ms = jitter.end_ms - screen.x;
    const calm = screen.stream(jitter.end_ms + 16, 200, 16);
    assert.ok(calm.end_ms - screen.x < 40 && calm.end_ms - screen.x < waited_ms);
  });

  test("stamps wrap around", () => {
    const screen = new Screen();
    const { places } = screen.stream(65_536 - 800, 100, 16);
    const even = steps(places.slice(-80));
    assert.ok(Math.min(...even) > 0.6 * FRAME_MS && Math.max(...even) < 1.4 * FRAME_MS);
  });

  test("older samples and repeated ones change nothing", () => {
    const screen = new Screen();
    const { end_ms } = screen.stream(0, 50, 16);
    const late = new Screen();
    late.stream(0, 50, 16);
    late.add(end_ms - 32, end_ms - 32);
    late.add(end_ms, end_ms);
    late.add(end_ms, end_ms);
    const places = screen.until(screen.now_ms + 300);
    assert.deepEqual(late.until(late.now_ms + 300), places);
    assert.ok(steps(places).every((step) => step >= 0));
    assert.equal(screen.x, end_ms);
  });

  test("a sender whose stamps never change is still followed", () => {
    const screen = new Screen();
    for (let i = 0; i <= 100; i++) {
      screen.until(10_000 + i * 33);
      screen.add(i, 7);
    }
    assert.ok(screen.x > 94, `${screen.x}`);
    screen.until(screen.now_ms + 200);
    assert.equal(screen.x, 100);
  });

  for (const jump_ms of [-30_000, -700, -300, -16, 500, 900, 5_000, 30_000]) {
    test(`a sender's clock that jumps by ${jump_ms} ms is believed anew`, () => {
      const screen = new Screen();
      const { end_ms } = screen.stream(0, 100, 16);
      screen.until(screen.now_ms + 300);
      const from_ms = screen.now_ms;
      for (let i = 0; i < 40; i++) {
        screen.until(from_ms + i * 16);
        screen.add(end_ms + i, end_ms + 300 + jump_ms + i * 16);
      }
      assert.ok(end_ms + 39 - screen.x < 10, `${end_ms + 39 - screen.x} samples behind`);
      screen.until(screen.now_ms + 300);
      assert.equal(screen.x, end_ms + 39);
    });
  }

  test("clocks that drift apart for half an hour cost nothing", () => {
    for (const drift of [0.9995, 1.0005]) {
      const screen = new Screen();
      for (let i = 0; i < 18_000; i++) {
        screen.now_ms = 10_000 + i * 100;
        screen.add(i, Math.round(i * 100 * drift));
        const behind = i - screen.x;
        assert.ok(behind < 1.6, `${behind} samples behind after ${i}`);
      }
    }
  });

  test("a pause holds the last sample, exactly, and nothing is drawn", () => {
    const screen = new Screen();
    screen.stream(0, 50, 16);
    const last = screen.add(1_000, 800);
    screen.until(screen.now_ms + 300);
    for (let i = 0; i < 100; i++) {
      screen.now_ms += 97;
      assert.deepEqual({ ...screen.between }, { from: last, to: last, share: 1, moving: false });
      assert.equal(screen.smoother.moving(screen.now_ms), false);
    }
  });

  for (const pause_ms of [400, 5_000, 19_000, 25_000, 100_000]) {
    test(`after a pause of ${pause_ms} ms it moves within one wait, not across the pause`, () => {
      const screen = new Screen();
      const { end_ms } = screen.stream(0, 100, 16);
      screen.until(screen.now_ms + pause_ms);
      assert.equal(screen.x, end_ms);
      screen.add(end_ms + 50, end_ms + pause_ms);
      assert.ok(Math.abs(screen.x - end_ms) < 1, "it starts from where it was");
      screen.until(screen.now_ms + 100);
      assert.equal(screen.x, end_ms + 50);
    });
  }

  test("pauses do not make it wait longer", () => {
    const screen = new Screen();
    let { end_ms } = screen.stream(0, 100, 16);
    const before_ms = end_ms - screen.x;
    for (let i = 0; i < 20; i++) {
      const pause_ms = 200 + 150 * i;
      screen.until(screen.now_ms + pause_ms);
      ({ end_ms } = screen.stream(end_ms + pause_ms, 20, 16));
    }
    assert.ok(end_ms - screen.x < before_ms + 20, `${before_ms} ms, then ${end_ms - screen.x} ms`);
  });

  for (const stall_ms of [200, 500, 2_000, 10_000]) {
    test(`what comes at once after a stall of ${stall_ms} ms is not replayed`, () => {
      const screen = new Screen();
      const { end_ms } = screen.stream(0, 100, 16);
      screen.until(screen.now_ms + stall_ms);
      const count = Math.floor(stall_ms / 16);
      for (let i = 1; i <= count; i++) screen.add(end_ms + i * 16, end_ms + i * 16);
      const places = screen.until(screen.now_ms + 300);
      assert.ok(steps(places).every((step) => step >= 0));
      assert.equal(screen.x, end_ms + count * 16);
      const on = screen.stream(end_ms + stall_ms + 300, 150, 16);
      assert.ok(on.end_ms - screen.x < 90, `${on.end_ms - screen.x} ms behind afterwards`);
    });
  }

  test("after a tab was hidden, drawing goes on with the newest", () => {
    const screen = new Screen();
    screen.stream(0, 10, 16);
    for (let i = 10; i < 10_000; i++) {
      screen.now_ms += 16;
      screen.add(i * 16, i * 16);
    }
    assert.ok(9_999 * 16 - screen.x <= 90, `${9_999 * 16 - screen.x} ms behind`);
  });

  test("beyond the threshold it jumps, and there is nothing in between", () => {
    const screen = new Screen({ far: (from, to) => Math.abs(to.x - from.x) > 500 });
    const { end_ms } = screen.stream(0, 50, 66);
    screen.until(screen.now_ms + 66);
    screen.add(end_ms + 5_000, end_ms + 66);
    const places = screen.until(screen.now_ms + 200);
    assert.ok(places.every((x) => x <= end_ms || x === end_ms + 5_000));
    assert.ok(steps(places).every((step) => step >= 0));
    assert.equal(screen.x, end_ms + 5_000);
  });

  test("turned off, it is the newest sample, as it arrives", () => {
    const screen = new Screen({ smooth: false });
    for (let i = 0; i < 50; i++) {
      screen.now_ms += 33;
      const sample = screen.add(i * 10, i * 33);
      assert.equal(screen.smoother.moving(screen.now_ms), true);
      assert.deepEqual({ ...screen.between }, { from: sample, to: sample, share: 1, moving: false });
      assert.equal(screen.smoother.moving(screen.now_ms), false);
    }
    screen.now_ms += 33;
    screen.add(-1, 10);
    assert.equal(screen.x, 490, "an older one does not count");
  });
});

describe("many cursors", () => {
  test("each is by itself; who is gone is gone", () => {
    const smoother = new Smoother<number>();
    for (let id = 0; id < 300; id++) smoother.add(id, { x: id, y: 0, time_ms: 0 }, 0);
    for (let id = 0; id < 300; id++) assert.equal(smoother.at(id, 16)?.to.x, id);
    assert.equal(smoother.moving(16), false);
    smoother.add(7, { x: 50, y: 0, time_ms: 30 }, 30);
    assert.equal(smoother.moving(32), true);
    smoother.remove(7);
    assert.equal(smoother.at(7, 40), null);
    assert.equal(smoother.moving(40), false);
    assert.equal(smoother.at(8, 40)?.to.x, 8);
    smoother.clear();
    assert.equal(smoother.at(8, 50), null);
  });

  test("what is no position is not taken", () => {
    const smoother = new Smoother<number>();
    for (const x of [NaN, Infinity, -Infinity]) {
      smoother.add(1, { x, y: 0, time_ms: 0 }, 0);
      smoother.add(1, { x: 0, y: x, time_ms: 0 }, 0);
    }
    assert.equal(smoother.at(1, 10), null);
  });

  test("drawing makes no objects", () => {
    const smoother = new Smoother<number>();
    smoother.add(1, { x: 0, y: 0, time_ms: 0 }, 0);
    const first = smoother.at(1, 0);
    smoother.add(1, { x: 9, y: 9, time_ms: 16 }, 16);
    assert.equal(smoother.at(1, 20), first);
  });
});

describe("whatever arrives", () => {
  interface Made {
    readonly at_ms: number;
    readonly time_ms: number;
    /** One of the first two of another clock. */
    readonly fresh?: boolean;
  }

  /** A sender and its network that were made up: pauses, stalls, loss, reloads, another rate. */
  function* honest(random: () => number): Generator<Made> {
    let sent_ms = 1_000;
    let clock_ms = 65_536 * random();
    let arrived_ms = 0;
    let stall_until_ms = 0;
    let interval_ms = 16;
    let fresh = 0;
    const jitter_ms = 120 * random();
    for (let i = 0; i < 400; i++) {
      const what = random();
      if (what < 0.02) sent_ms += 3_000 * random();
      else if (what < 0.03) stall_until_ms = sent_ms + 4_000 * random();
      else if (what < 0.04) interval_ms = [16, 33, 66, 100][Math.floor(4 * random())]!;
      else if (what < 0.045) [sent_ms, clock_ms, fresh] = [sent_ms + 300 + 2_000 * random(), 65_536 * random(), 2];
      sent_ms += interval_ms;
      if (random() < 0.02) continue;
      arrived_ms = Math.max(arrived_ms, stall_until_ms, sent_ms + jitter_ms * random());
      yield { at_ms: arrived_ms, time_ms: Math.floor(clock_ms + sent_ms) & 0xffff, fresh: fresh-- > 0 };
    }
  }

  /** Anything: stamps out of thin air, at any time. */
  function* hostile(random: () => number): Generator<Made> {
    let at_ms = 0;
    for (let i = 0; i < 400; i++) {
      at_ms += random() < 0.5 ? 0 : random() < 0.9 ? 50 * random() : 40_000 * random();
      yield { at_ms, time_ms: random() < 0.3 ? Math.floor(65_536 * random()) : Math.floor(at_ms + 2_000 * random()) & 0xffff };
    }
  }

  /** Draws at 60 Hz; calls `see` with the numbers of the samples before and behind the cursor. */
  function watch(seed: number, arrivals: Iterable<Made>, see: (from: number, to: number, between: Between, now_ms: number) => void) {
    const smoother = new Smoother<number>();
    const random = seeded(seed + 1);
    const numbers = new Map<Sampled, number>();
    const all: Made[] = [];
    let frame_ms = 0;
    const draw = (until_ms: number) => {
      for (; frame_ms < until_ms; frame_ms += FRAME_MS) {
        const between = smoother.at(1, frame_ms);
        if (between) see(numbers.get(between.from) ?? NaN, numbers.get(between.to) ?? NaN, between, frame_ms);
      }
    };
    for (const made of arrivals) {
      const { at_ms, time_ms } = made;
      draw(Math.min(at_ms, frame_ms + 2_000));
      frame_ms = Math.max(frame_ms, Math.floor(at_ms / FRAME_MS) * FRAME_MS);
      const sample = { x: 1_000 * random(), y: 1_000 * random(), time_ms };
      numbers.set(sample, all.length);
      all.push(made);
      smoother.add(1, sample, at_ms);
    }
    draw(frame_ms + 1_000);
    return { smoother, all, end_ms: frame_ms };
  }

  test("it is between two of its samples, never goes back, and comes to rest", () => {
    for (let seed = 1; seed <= 200; seed++) {
      for (const arrivals of [honest, hostile]) {
        let before = 0;
        const { smoother, end_ms } = watch(seed, arrivals(seeded(seed)), (from, to, { share, moving }) => {
          const where = `seed ${seed}: from ${from} to ${to}, ${share}`;
          assert.ok(from <= to && share >= 0 && share <= 1, where);
          const at = from + (to - from) * share;
          assert.ok(at >= before, `${where}, before at ${before}`);
          before = at;
          if (!moving) assert.ok(from === to && share === 1, where);
        });
        assert.equal(smoother.moving(end_ms), false, `seed ${seed}`);
      }
    }
  });

  test("every sample is reached within 400 ms of its arrival", () => {
    for (let seed = 1; seed <= 200; seed++) {
      const reached_ms: number[] = [];
      const { all } = watch(seed, honest(seeded(seed)), (from, to, { share }, now_ms) => {
        const at = share === 1 ? to : from;
        for (let i = reached_ms.length; i <= at; i++) reached_ms.push(now_ms);
      });
      for (const [i, { at_ms, fresh }] of all.entries()) {
        // A clock that was set back a little looks like two samples that came too late: the third tells.
        if (fresh) continue;
        assert.ok(reached_ms[i]! - at_ms <= 400, `seed ${seed}, sample ${i}: ${reached_ms[i]! - at_ms} ms`);
      }
    }
  });
});

describe("the goal, on the traces", () => {
  const directory = join(process.cwd(), "traces");
  const kept: Trace[] = readdirSync(directory)
    .filter((name) => name.endsWith(".csv"))
    .map((name) => decodeTrace(name, readFileSync(join(directory, name), "utf8")));

  test("the traces are there, and are what was written", () => {
    assert.ok(kept.length >= 7);
    for (const trace of kept) {
      assert.ok(trace.moves.length > 300, trace.name);
      assert.deepEqual(decodeTrace(trace.name, encodeTrace(trace)), trace);
      assert.throws(() => decodeTrace(trace.name, "1,2\n"));
    }
  });

  // Nothing was tuned on the fresh ones.
  for (const [about, some] of [["kept", kept], ["fresh", traces(20)]] as const) {
    for (const named of conditions.filter(({ goal }) => goal)) {
      test(`${named.name}, ${about} traces`, () => {
        for (const trace of some) {
          const arrivals = [1, 2, 3, 4, 5].map((seed) => deliver(trace, named, seed));
          const [plain, smoothed] = [raw, ours].map((display) => pool(arrivals.map((one) => measure(one, play(one, display())))));
          assert.deepEqual(misses(plain!, smoothed!), [], trace.name);
        }
      });
    }
  }
});
