/**
 * Which node is near, as this browser measures it: a small request to one node of each region, timed.
 * Loaded once there is a connection, and beside it, so that it delays nothing.
 */
import type { Environment } from "./api";
import { endpoint } from "./nodes";

/** Other regions that are measured. */
const REGIONS_MAX = 4;
/** Requests to a node that are timed, after one that opens the connection; the fastest counts. */
const SAMPLES = 3;
/** A node that does not answer within this time is not near. */
const PATIENCE_MS = 5_000;
/** A node that is as much faster is worth a move: a move costs everyone in the room a little. */
const FASTER_BY_MS = 50;
const FASTER_BY_FACTOR = 2;
const NODES_MAX = 256;
/**
 * Before a move it is measured once more, after a time between these: when everyone of a node that was
 * lost has just arrived, the one that took them is slow for a moment, and not for all at the same one.
 */
const AGAIN_MS = 3_000;
const AGAIN_MS_MAX = 9_000;

/** What a look around found. */
export interface Found {
  /** Other nodes' addresses, nearest first. */
  order: string[];
  /** The first of them, if it is so much nearer that it is worth a move. */
  better: boolean;
}

/** Looks around from the node `node`, which is connected at `url`. Rejects where that one cannot say. */
export type LookAround = (env: Environment, url: string, node: string) => Promise<Found>;

interface Near {
  node: string;
  region: string;
  url: string;
}

export const lookAround: LookAround = async (env, url, node) => {
  const found = await measure(env, url, node);
  if (!found.better) return found;
  await new Promise<void>((done) => void env.timer(done, AGAIN_MS + (AGAIN_MS_MAX - AGAIN_MS) * env.random()));
  return measure(env, url, node);
};

const measure: LookAround = async (env, url, node) => {
  const listed = (JSON.parse(await ask(env, url)) as { nodes: Near[] }).nodes.slice(0, NODES_MAX);
  const nodes: Near[] = [];
  for (const near of listed) {
    const address = endpoint(near.url);
    if (address !== null) nodes.push({ ...near, url: address });
  }
  const others = nodes.filter((near) => near.node !== node && near.url !== url);
  const home = nodes.find((near) => near.node === node)?.region ?? null;
  /** The node to measure of each other region: the first that is listed. */
  const probes = new Map<string, string>();
  for (const near of others) {
    if (near.region !== home && !probes.has(near.region) && probes.size < REGIONS_MAX) probes.set(near.region, near.url);
  }
  if (probes.size === 0) return { order: others.map((near) => near.url), better: false };

  const times = new Map<string | null, number>();
  // One after the other: they would wait for each other on a slow line.
  const here_ms = await time(env, url);
  times.set(home, here_ms);
  for (const [region, probe] of probes) times.set(region, await time(env, probe));
  const time_of = (near: Near) => times.get(near.region) ?? Infinity;
  // Equals stay in the order in which the node gave them.
  others.sort((a, b) => (time_of(a) < time_of(b) ? -1 : time_of(a) > time_of(b) ? 1 : 0));
  const [first] = others;
  const first_ms = first ? time_of(first) : Infinity;
  return {
    order: others.map((near) => near.url),
    better: here_ms - first_ms > FASTER_BY_MS && here_ms > FASTER_BY_FACTOR * first_ms,
  };
};

/** Milliseconds of a round trip; infinite where there is no answer. */
async function time(env: Environment, url: string): Promise<number> {
  let best = Infinity;
  try {
    await ask(env, url);
    for (let i = 0; i < SAMPLES; i += 1) {
      const began = env.now();
      await ask(env, url);
      best = Math.min(best, env.now() - began);
    }
  } catch {
    // What answered counts.
  }
  return best;
}

async function ask(env: Environment, url: string): Promise<string> {
  const address = `${url.replace(/^ws/, "http").replace(/[?#].*$/, "").replace(/\/$/, "")}/nodes`;
  const stop = new AbortController();
  const cancel = env.timer(() => stop.abort(), PATIENCE_MS);
  try {
    const answer = await env.fetch(address, { signal: stop.signal, cache: "no-store", credentials: "omit" });
    if (!answer.ok) throw new Error(`${address} answered ${answer.status}`);
    return await answer.text();
  } finally {
    cancel();
  }
}
