// How a bot's hand moves: along curves, fast in the middle and slow at the ends as hands do, with pauses
// in between. Pure: all of it comes from the seed.

/** A reach takes so long, and longer for farther places. */
const REACH_MS = 420;
const REACH_MS_PER_WIDTH = 1500;
const PAUSE_MS_MIN = 150;
const PAUSE_MS_MAX = 2200;
/** How far a curve swings out, as a share of its length. */
const SWING = 0.28;
/** Now and then a hand circles around a thing. */
const CIRCLES = 0.16;
const CIRCLE_MS = 1500;

/** Numbers from 0 to 1, less than 1: the same for the same seed (mulberry32). */
export function random(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export class Wanderer {
  #random;
  #from;
  #to;
  /** Control points of the curve. */
  #bend;
  #starts_ms;
  #ends_ms;
  #pause_ms;
  #circle = null;

  /** From `now_ms` on, on any clock that does not go back. */
  constructor(seed, now_ms) {
    this.#random = random(seed);
    this.#to = this.#place();
    this.#reach(now_ms + this.#random() * 600);
  }

  /** Where the hand is: fractions from 0 to 1 of what it wanders over. */
  at(now_ms) {
    // After a long pause of the page, one reach is as good as many.
    if (now_ms > this.#ends_ms + this.#pause_ms) this.#reach(Math.max(now_ms - 16, this.#ends_ms + this.#pause_ms));
    const share = smooth(clamp((now_ms - this.#starts_ms) / (this.#ends_ms - this.#starts_ms)));
    if (this.#circle) {
      const { x, y, radius, turns } = this.#circle;
      const angle = share * turns * 2 * Math.PI;
      return { x: x + radius * (Math.cos(angle) - 1), y: y + 1.4 * radius * Math.sin(angle) };
    }
    const left = 1 - share;
    const [one, two] = this.#bend;
    const mix = (axis) => left ** 3 * this.#from[axis] + 3 * left * left * share * one[axis] + 3 * left * share * share * two[axis] + share ** 3 * this.#to[axis];
    return { x: clamp(mix("x")), y: clamp(mix("y")) };
  }

  #reach(starts_ms) {
    const next = this.#random;
    this.#starts_ms = starts_ms;
    this.#pause_ms = PAUSE_MS_MIN + next() ** 2 * (PAUSE_MS_MAX - PAUSE_MS_MIN);
    if (!this.#circle && this.#from && next() < CIRCLES) {
      this.#circle = { ...this.#to, radius: 0.02 + 0.02 * next(), turns: 1 + Math.floor(next() * 2) };
      this.#ends_ms = starts_ms + CIRCLE_MS * this.#circle.turns;
      return;
    }
    this.#circle = null;
    this.#from = this.#to;
    this.#to = this.#place();
    const [dx, dy] = [this.#to.x - this.#from.x, this.#to.y - this.#from.y];
    const bend = (share) => {
      const swing = (next() - 0.5) * 2 * SWING;
      return { x: this.#from.x + dx * share - dy * swing, y: this.#from.y + dy * share + dx * swing };
    };
    this.#bend = [bend(0.3), bend(0.7)];
    this.#ends_ms = starts_ms + REACH_MS + REACH_MS_PER_WIDTH * Math.hypot(dx, dy) * (0.7 + 0.6 * next());
  }

  /** Mostly near where it is, now and then anywhere. */
  #place() {
    const next = this.#random;
    const anywhere = { x: 0.04 + 0.92 * next(), y: 0.04 + 0.92 * next() };
    if (!this.#to || next() < 0.35) return anywhere;
    const near = (at, by) => Math.min(0.96, Math.max(0.04, at + (by - 0.5) * 0.5));
    return { x: near(this.#to.x, anywhere.x), y: near(this.#to.y, anywhere.y) };
  }
}

/** A hand's reach: it begins and ends without a jerk. */
function smooth(share) {
  return share ** 3 * (10 + share * (6 * share - 15));
}

function clamp(share) {
  return Math.min(1, Math.max(0, share));
}
