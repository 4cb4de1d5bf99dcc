/**
 * Makes the traces: a program's idea of a hand with a mouse, no recording of anybody.
 *
 * A stroke is a minimum-jerk movement whose duration follows Fitts's law; most miss a little and are
 * followed by a correction. Strokes bend, hands tremble at about 9 Hz, and a mouse of 125 Hz reports
 * whole pixels.
 */
import { normal, seeded } from "./random";
import type { PointerMove, Trace } from "./trace";

const WIDTH = 1_280;
const HEIGHT = 800;
/** Each trace is at least this long. */
const LENGTH_MS = 16_000;
const MOUSE_MS = 8;
const TREMOR_PX = 0.5;
const TREMOR_HZ = 9;

interface Point {
  readonly x: number;
  readonly y: number;
}

/** A hand: where it is in each millisecond. */
class Hand {
  readonly path: Point[] = [{ x: WIDTH / 2, y: HEIGHT / 2 }];

  constructor(readonly random: () => number) {}

  get here(): Point {
    return this.path[this.path.length - 1]!;
  }

  get done(): boolean {
    return this.path.length >= LENGTH_MS;
  }

  between(least: number, most: number): number {
    return least + (most - least) * this.random();
  }

  rest(ms: number): void {
    const here = this.here;
    for (let i = 0; i < ms; i++) this.path.push(here);
  }

  /** Anywhere on the page, `least` to `most` pixels away. */
  target(least: number, most: number): Point {
    for (;;) {
      const angle = this.between(0, 2 * Math.PI);
      const distance = this.between(least, most);
      const x = this.here.x + distance * Math.cos(angle);
      const y = this.here.y + distance * Math.sin(angle);
      if (x > 20 && x < WIDTH - 20 && y > 20 && y < HEIGHT - 20) return { x, y };
    }
  }

  /** One minimum-jerk movement, bent to the side by `bend` of its length. */
  stroke(to: Point, ms: number, bend: number): void {
    const from = this.here;
    const dx = to.x - from.x;
    const dy = to.y - from.y;
    for (let i = 1; i <= ms; i++) {
      const u = i / ms;
      const s = u * u * u * (10 - 15 * u + 6 * u * u);
      const aside = bend * Math.sin(Math.PI * s);
      this.path.push({ x: from.x + dx * s - dy * aside, y: from.y + dy * s + dx * aside });
    }
  }

  /** To something of a size: the stroke, and corrections until it is on it. */
  reach(target: Point, size: number, speed = 1): void {
    for (let i = 0; i < 4; i++) {
      const distance = Math.hypot(target.x - this.here.x, target.y - this.here.y);
      if (distance < size / 2) return;
      const ms = Math.max(90, (80 + 110 * Math.log2(1 + distance / size)) / speed);
      const off = () => normal(this.random) * 0.05 * distance;
      this.stroke({ x: target.x + off(), y: target.y + off() }, ms, normal(this.random) * 0.06);
      if (i > 0) this.rest(this.between(20, 70));
    }
  }

  /** Along a curve of time in seconds, for a while, with a soft beginning and end. */
  follow(curve: (t_s: number) => Point, ms: number): void {
    const from = this.here;
    const start = curve(0);
    let t_s = 0;
    for (let i = 0; i < ms; i++) {
      t_s += Math.min(1, (i + 1) / 120, (ms - i) / 120) / 1_000;
      const at = curve(t_s);
      this.path.push({ x: from.x + at.x - start.x, y: from.y + at.y - start.y });
    }
  }
}

const habits: Record<string, (hand: Hand) => void> = {
  /** From button to button, with clicks. */
  pointing(hand) {
    hand.reach(hand.target(80, 800), 40);
    hand.rest(hand.between(120, 900));
  },
  /** Small moves while somebody reads, long pauses. */
  reading(hand) {
    for (let i = hand.between(1, 4); i > 0; i--) hand.reach(hand.target(15, 160), 20, 0.5);
    hand.rest(hand.between(400, 2_500));
  },
  /** Circles around something, to show it. */
  circles(hand) {
    hand.reach(hand.target(100, 300), 60);
    const radius = hand.between(40, 150);
    const hz = hand.between(0.8, 1.8);
    const flat = hand.between(0.6, 1);
    const drift = normal(hand.random) * 30;
    hand.follow((t) => ({ x: radius * Math.cos(2 * Math.PI * hz * t) + drift * t, y: flat * radius * Math.sin(2 * Math.PI * hz * t) }), hand.between(1_500, 3_500));
    hand.rest(hand.between(100, 500));
  },
  /** Shading: to and fro as fast as a wrist goes. */
  scribble(hand) {
    hand.reach({ x: hand.between(400, 900), y: hand.between(250, 550) }, 80);
    const wide = hand.between(80, 200);
    const hz = hand.between(2, 4);
    const angle = hand.between(0, Math.PI);
    hand.follow((t) => {
      const across = wide * Math.sin(2 * Math.PI * hz * t) * (1 + 0.2 * Math.sin(2 * Math.PI * 0.7 * t));
      const along = 60 * t;
      return { x: across * Math.cos(angle) - along * Math.sin(angle), y: across * Math.sin(angle) + along * Math.cos(angle) };
    }, hand.between(1_000, 2_500));
    hand.rest(hand.between(200, 800));
  },
  /** Across the page in a moment. */
  flicks(hand) {
    hand.stroke(hand.target(400, 1_000), hand.between(140, 260), normal(hand.random) * 0.08);
    hand.rest(hand.between(60, 700));
  },
  /** Words with a mouse: loops of some 25 px that move to the right, and the way to the next word. */
  writing(hand) {
    if (hand.here.x > WIDTH - 250) hand.reach({ x: 60, y: Math.min(HEIGHT - 60, hand.here.y + 60) }, 20);
    const hz = hand.between(2.5, 4);
    const tall = hand.between(10, 25);
    hand.follow((t) => ({ x: 70 * t + 8 * Math.sin(2 * Math.PI * hz * t), y: tall * Math.cos(2 * Math.PI * hz * t) * (1 + 0.4 * Math.sin(5 * t)) }), hand.between(700, 1_800));
    hand.reach({ x: hand.here.x + 25, y: Math.max(40, hand.here.y) }, 12);
    hand.rest(hand.between(60, 300));
  },
  /** Something is carried, not fast and not straight, and let go. */
  dragging(hand) {
    hand.reach(hand.target(150, 500), 40);
    hand.rest(hand.between(150, 400));
    const to = hand.target(200, 700);
    const distance = Math.hypot(to.x - hand.here.x, to.y - hand.here.y);
    hand.stroke(to, (distance / hand.between(200, 450)) * 1_000, normal(hand.random) * 0.2);
    hand.rest(hand.between(200, 700));
  },
};

/** All traces of a seed. */
export function traces(seed: number): Trace[] {
  return Object.entries(habits).map(([name, habit], i) => {
    const hand = new Hand(seeded(seed * 1_000 + i));
    hand.rest(100);
    while (!hand.done) habit(hand);
    return { name, moves: reported(hand) };
  });
}

/** What the mouse makes of it: whole pixels at its own rate, and nothing where nothing moved. */
function reported(hand: Hand): PointerMove[] {
  const moves: PointerMove[] = [];
  let last: PointerMove | null = null;
  let phase = 0;
  for (let t = 0; t < hand.path.length; t += MOUSE_MS) {
    const here = hand.path[t]!;
    const before = hand.path[Math.max(0, t - MOUSE_MS)]!;
    // A hand that rests on the desk does not tremble.
    const amount = TREMOR_PX * Math.min(1, Math.hypot(here.x - before.x, here.y - before.y));
    phase += (2 * Math.PI * MOUSE_MS * TREMOR_HZ * (1 + 0.2 * normal(hand.random))) / 1_000;
    const x = Math.round(here.x + amount * Math.cos(phase));
    const y = Math.round(here.y + amount * Math.sin(0.8 * phase));
    const t_ms = t + Math.floor(2 * hand.random());
    if (last && x === last.x && y === last.y) continue;
    last = { t_ms, x, y };
    moves.push(last);
  }
  return moves;
}
