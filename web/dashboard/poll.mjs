// Asks nodes for their views: each on its own clock with its own timeout, so that one that is silent
// delays nobody, and more seldom while it is silent.

import { askableBase } from "./address.mjs";
import { readView } from "./mesh.mjs";
import { withRates } from "./traffic.mjs";

const EVERY_MS = 500;
/** Beyond this many nodes each is asked more seldom, so that the page costs a machine no more. */
const ASKED_OFTEN_MAX = 10;
/** Nobody looks at a hidden page, but its log goes on. */
const EVERY_HIDDEN_MS = 5000;
const SILENT_EVERY_MAX_MS = 4000;
/** A machine that has much else to do may take this long; what was asked meanwhile is not asked again. */
const TIMEOUT_MS = 5000;
/** After this long without an answer the page says so, whether or not one may still come. */
const SILENT_AFTER_MS = 2000;
/** Behind a load balancer any node may answer; what one said is good for this long. */
const FRESH_MS = 3000;

/** One address that is asked again and again. */
class Source {
  #changed;
  #stopped = false;
  #timer = null;
  #failures = 0;
  /** What was heard: node to {view, at}. */
  #heard = new Map();

  constructor(base, node, changed) {
    this.base = base;
    /** Who has to answer; null if anybody may. */
    this.node = node;
    this.answered_at = null;
    /** How many times longer than usual to wait between questions. */
    this.leisure = 1;
    this.#changed = changed;
  }

  start() {
    void this.#ask();
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
  }

  get silent() {
    return this.#failures > 0;
  }

  /** Whether it is known if it answers. */
  get settled() {
    return this.silent || this.answered_at !== null;
  }

  views(now) {
    if (this.silent) return [];
    const fresh = document.hidden ? EVERY_HIDDEN_MS + FRESH_MS : FRESH_MS;
    return [...this.#heard.values()].filter(({ at }) => now - at < fresh).map(({ view }) => view);
  }

  /** Asks now, without waiting for the turn. */
  hurry() {
    if (this.#timer === null || this.#stopped) return;
    clearTimeout(this.#timer);
    void this.#ask();
  }

  async #ask() {
    this.#timer = null;
    try {
      this.#take(await fetchView(this.base));
    } catch {
      this.#failures += 1;
      this.#heard.clear();
    }
    if (this.#stopped) return;
    this.#changed();
    this.#timer = setTimeout(() => void this.#ask(), this.#pause());
  }

  #take(view) {
    if (this.node !== null && view.node !== this.node) throw new Error(`${view.node} answers for ${this.node}`);
    const now = performance.now();
    const last = this.#heard.get(view.node);
    this.#heard.set(view.node, { view: withRates(view, last?.view, now - last?.at), at: now });
    for (const [node, { at }] of this.#heard) if (now - at > 4 * FRESH_MS) this.#heard.delete(node);
    this.#failures = 0;
    this.answered_at = now;
  }

  #pause() {
    const every = document.hidden ? EVERY_HIDDEN_MS : EVERY_MS * this.leisure;
    return this.#failures ? Math.max(every, Math.min(EVERY_MS * 2 ** this.#failures, SILENT_EVERY_MAX_MS)) : every;
  }
}

async function fetchView(base) {
  const response = await fetch(new URL("api/mesh", base), { signal: AbortSignal.timeout(TIMEOUT_MS), cache: "no-store", credentials: "omit" });
  if (!response.ok) throw new Error(`status ${response.status}`);
  const view = readView(await response.json());
  if (!view) throw new Error("no view of a mesh");
  return view;
}

/** The node that served the page and, where it says that it may be, every other one on loopback. */
export class Polling {
  #own;
  #others = new Map();
  #changed;
  #began_at = performance.now();

  constructor(base, changed) {
    this.#changed = changed;
    this.#own = new Source(base, null, changed);
    document.addEventListener("visibilitychange", () => { if (!document.hidden) this.hurry(); });
  }

  start() {
    this.#own.start();
  }

  hurry() {
    for (const source of [this.#own, ...this.#others.values()]) source.hurry();
  }

  /** What was last heard from those that answer, each node once. */
  views() {
    const now = performance.now();
    const all = [this.#own, ...this.#others.values()].flatMap((source) => source.views(now));
    return [...new Map(all.reverse().map((view) => [view.node, view])).values()].reverse();
  }

  /** Whether everybody who can be asked has answered or failed to. */
  settled() {
    return [this.#own, ...this.#others.values()].every((source) => source.settled);
  }

  /** For how long the node that served the page has not answered; null if it does. */
  silent_ms() {
    const age_ms = performance.now() - (this.#own.answered_at ?? this.#began_at);
    const late = age_ms > SILENT_AFTER_MS + (document.hidden ? EVERY_HIDDEN_MS : 0);
    return this.#own.silent || late ? age_ms : null;
  }

  /** Asks the nodes of this mesh that can be asked, and nobody else any more. */
  follow(mesh, home) {
    const wanted = new Map();
    if (mesh.dev) {
      for (const { node, url, state } of mesh.nodes) {
        const base = node !== home && state !== "down" && url ? askableBase(url) : null;
        if (base) wanted.set(node, base);
      }
    }
    for (const [node, source] of this.#others) {
      if (wanted.get(node) === source.base) continue;
      source.stop();
      this.#others.delete(node);
    }
    for (const [node, base] of wanted) {
      if (this.#others.has(node)) continue;
      const source = new Source(base, node, this.#changed);
      this.#others.set(node, source);
      source.start();
    }
    for (const source of this.#others.values()) source.leisure = Math.max(1, this.#others.size / ASKED_OFTEN_MAX);
  }

  /** The base address of a node for requests from here, if it has one. */
  base(node, home) {
    return node === home ? this.#own.base : this.#others.get(node)?.base ?? null;
  }
}
