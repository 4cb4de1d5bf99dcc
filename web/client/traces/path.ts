/**
 * From one page to another: a sender that coalesces, links that lose and delay, a node that passes the
 * newest on. All of it drawn from a seed, in virtual time.
 */
import type { Sampled } from "../src/smooth/smoother";
import { seeded } from "./random";
import { follower, type PointerMove, type Trace } from "./trace";

/** A sample on its way: `t_ms` is when it was taken, on the clock of the trace. */
export interface Sent extends Sampled {
  readonly t_ms: number;
}

/** A sample as the other page gets it. */
export interface Arrival {
  readonly sample: Sent;
  readonly at_ms: number;
}

/** Delays beyond the shortest one, as a share of what is called the jitter. */
export type Shape =
  /** Evenly from none to all of it. */
  | "even"
  /** Gamma: on average half of it, 5 % above 1.2 of it, without an end. */
  | "tail";

/** What loses and delays. */
export type Link =
  /** Node to node: each datagram by itself, the newest wins. */
  | "datagrams"
  /** The sender's TCP connection: order is kept, a lost packet holds up all behind it, and the node passes on the last of them. */
  | "stream in"
  /** The reader's TCP connection: the same, and all of them come at once. */
  | "stream out";

export interface Conditions {
  readonly link: Link;
  readonly shape: Shape;
  readonly jitter_ms: number;
  /** Share of packets. */
  readonly loss: number;
  /** The sender's least time between two frames. */
  readonly interval_ms: number;
}

/** The way without jitter. */
const BASE_MS = 40;
/** A sender's animation frames. */
const FRAME_MS = 1_000 / 60;
/** A node writes to each reader so often at most. */
const TICK_MS = 16;
/** A lost TCP packet comes this much later: it is noticed, and sent again. */
const RESEND_MS = 2 * BASE_MS + 20;

/** What arrives of a trace, oldest first. */
export function deliver(trace: Trace, conditions: Conditions, seed: number): Arrival[] {
  const random = seeded(seed);
  const sent = send(trace, conditions.interval_ms, random);
  const phase_ms = TICK_MS * random();
  if (conditions.link === "stream out") return transmit(conflate(sent, phase_ms), conditions, random);
  return conflate(transmit(sent, conditions, random), phase_ms);
}

/** The newest position with an animation frame, as the client's pacer does it. */
export function send(trace: Trace, interval_ms: number, random: () => number): Arrival[] {
  const sent: Arrival[] = [];
  const where = follower(trace);
  const end_ms = trace.moves[trace.moves.length - 1]!.t_ms + 2 * FRAME_MS + interval_ms;
  const clock_ms = Math.floor(65_536 * random());
  let last: PointerMove | null = null;
  let last_ms = -Infinity;
  for (let frame_ms = trace.moves[0]!.t_ms + FRAME_MS * random(); frame_ms < end_ms; frame_ms += FRAME_MS) {
    const now_ms = frame_ms + 2 * random();
    const move = where(now_ms);
    if (move === last || now_ms - last_ms < interval_ms - 2) continue;
    last = move;
    last_ms = now_ms;
    sent.push({ sample: { x: move.x, y: move.y, t_ms: move.t_ms, time_ms: (clock_ms + move.t_ms) & 0xffff }, at_ms: now_ms });
  }
  return sent;
}

function transmit(sent: Arrival[], { link, shape, jitter_ms, loss }: Conditions, random: () => number): Arrival[] {
  const arrivals: Arrival[] = [];
  let before_ms = -Infinity;
  for (const { sample, at_ms } of sent) {
    const lost = random() < loss;
    let arrived_ms = at_ms + BASE_MS + delay(shape, jitter_ms, random);
    if (link !== "datagrams") {
      if (lost) arrived_ms += RESEND_MS;
      arrived_ms = before_ms = Math.max(before_ms, arrived_ms);
    } else if (lost) continue;
    arrivals.push({ sample, at_ms: arrived_ms });
  }
  return arrivals.sort((a, b) => a.at_ms - b.at_ms);
}

function delay(shape: Shape, jitter_ms: number, random: () => number): number {
  if (shape === "even") return jitter_ms * random();
  // Two exponentials make a gamma of shape 2.
  return (-Math.log(1 - random()) - Math.log(1 - random())) * (jitter_ms / 4);
}

/** What a node does: older than the newest is dropped, and only the newest goes on with each tick. */
function conflate(arrivals: Arrival[], phase_ms: number): Arrival[] {
  const out: Arrival[] = [];
  let newest_ms = -Infinity;
  for (const { sample, at_ms } of arrivals) {
    if (sample.t_ms <= newest_ms) continue;
    newest_ms = sample.t_ms;
    const tick_ms = Math.ceil((at_ms - phase_ms) / TICK_MS) * TICK_MS + phase_ms;
    if (out.length > 0 && out[out.length - 1]!.at_ms === tick_ms) out.pop();
    out.push({ sample, at_ms: tick_ms });
  }
  return out;
}

