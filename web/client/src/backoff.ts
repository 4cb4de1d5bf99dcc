import type { Verdict } from "./closing";

/** The ceiling of the first wait: a client is back before its member's grace ends. */
const FIRST_MS_MAX = 1_000;
/** The highest ceiling: a node that returns has everyone back within this time. */
const LAST_MS_MAX = 30_000;
/** As many nodes are tried under one ceiling, so that a dead node costs no long wait. */
const NODES_PER_ROUND_MAX = 3;
/** All clients of a node that shuts down come at once: a little apart. */
const SPREAD_MS = 500;
const MINUTE_MS = 60_000;

/**
 * Milliseconds until the next try: full jitter under a ceiling that doubles with each round through
 * the nodes. `tries` counts those that failed since the connection was last stable, `random` is
 * at least 0 and less than 1.
 */
export function wait_ms(verdict: Verdict, tries: number, nodes: number, random: number): number {
  if (verdict.retry === "minute") return MINUTE_MS * (1 - random / 2);
  const round = Math.floor(tries / Math.min(Math.max(nodes, 1), NODES_PER_ROUND_MAX));
  const jitter = random * Math.min(FIRST_MS_MAX * 2 ** Math.min(round, 10), LAST_MS_MAX);
  if (verdict.retry_ms !== null) return tries === 0 ? verdict.retry_ms : Math.max(verdict.retry_ms, jitter);
  if (tries === 0) {
    if (verdict.retry === "at_once" || verdict.retry === "token") return 0;
    if (verdict.retry === "spread") return random * SPREAD_MS;
  }
  return jitter;
}
