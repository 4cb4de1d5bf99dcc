// Tests wait for facts, not for time to pass.

import { setTimeout as sleep } from "node:timers/promises";

/**
 * Asks `probe` until it gives something truthy, and returns that. A probe that throws counts as "not
 * yet"; its last word is in the error when `within_ms` pass.
 */
export async function eventually(fact, probe, { within_ms = 10_000, every_ms = 50 } = {}) {
  const end = Date.now() + within_ms;
  let last;
  for (;;) {
    try {
      last = await probe();
      if (last) return last;
    } catch (error) {
      last = error;
    }
    if (Date.now() >= end) {
      const seen = last instanceof Error ? last.message : JSON.stringify(last);
      throw new Error(`not true within ${within_ms} ms: ${fact}; last seen: ${seen}`);
    }
    await sleep(every_ms);
  }
}
