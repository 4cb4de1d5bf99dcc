import { quantile, type Measured } from "./measure";
import type { Conditions } from "./path";

/** What smoothing is held to, under the conditions that are marked as the goal's. */
export const GOAL = {
  /** The worst jump from frame to frame, of the worst one without smoothing. */
  jump_share: 0.5,
  delay_p95_ms: 100,
};

export interface Named extends Conditions {
  readonly name: string;
  readonly goal: boolean;
}

const usual: Conditions = { link: "datagrams", shape: "even", jitter_ms: 60, loss: 0.02, interval_ms: 16 };

const goals: [string, Partial<Conditions>][] = [
  ["datagrams, 2 % loss, even jitter of 60 ms", {}],
  ["datagrams, 2 % loss, long-tailed jitter of 60 ms", { shape: "tail" }],
  ["TCP to the node, 2 % loss, even jitter of 60 ms", { link: "stream in" }],
  ["TCP from the node, 2 % loss, even jitter of 60 ms", { link: "stream out" }],
];

const others: [string, Partial<Conditions>][] = [
  ["datagrams, no loss, no jitter", { loss: 0, jitter_ms: 0 }],
  ["datagrams, 2 % loss, jitter of 20 ms", { jitter_ms: 20 }],
  ["datagrams, 2 % loss, jitter of 120 ms", { jitter_ms: 120 }],
  ["datagrams, 10 % loss, jitter of 60 ms", { loss: 0.1 }],
  ["datagrams, 2 % loss, jitter of 60 ms, a sample per 33 ms", { interval_ms: 33 }],
  ["datagrams, 2 % loss, jitter of 60 ms, a sample per 66 ms", { interval_ms: 66 }],
  ["datagrams, 2 % loss, jitter of 60 ms, a sample per 100 ms", { interval_ms: 100 }],
  ["TCP to the node, 2 % loss, jitter of 20 ms", { link: "stream in", jitter_ms: 20 }],
  ["TCP from the node, 2 % loss, jitter of 20 ms", { link: "stream out", jitter_ms: 20 }],
  ["TCP from the node, 2 % loss, jitter of 120 ms", { link: "stream out", jitter_ms: 120 }],
  ["TCP from the node, 2 % loss, jitter of 60 ms, a sample per 100 ms", { link: "stream out", interval_ms: 100 }],
];

export const conditions: readonly Named[] = [
  ...goals.map(([name, change]) => ({ ...usual, ...change, name, goal: true })),
  ...others.map(([name, change]) => ({ ...usual, ...change, name, goal: false })),
];

/** What of the goal is missed, in words. */
export function misses(raw: Measured, smoothed: Measured): string[] {
  const share = quantile(smoothed.jumps_px, 1) / quantile(raw.jumps_px, 1);
  const p95_ms = quantile(smoothed.delays_ms, 0.95);
  return [
    ...(share <= GOAL.jump_share ? [] : [`the worst jump is ${share.toFixed(2)} of raw's, not ${GOAL.jump_share}`]),
    ...(p95_ms <= GOAL.delay_p95_ms ? [] : [`the added delay's p95 is ${p95_ms.toFixed(0)} ms, not ${GOAL.delay_p95_ms}`]),
  ];
}
