// The built client, on real nodes, over wires that drop, delay and half-open connections, with tabs that
// are duplicated and nodes that are killed and drained: what must hold all the time, and what must hold
// once it is quiet. More seeds: FAULT_SEEDS=30; one: FAULT_SEED=17.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import utilities from "playwright-core/lib/utilsBundle";
import { connect } from "../../web/dist/cursormesh.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { Link } from "./harness/link.mjs";

const FAULTY_MS = 9_000;
/** Grace, and the time in which a node finds a silent connection dead, and some. */
const QUIET_WITHIN_MS = 30_000;
const STEP_MS = 20;
/** Until nodes know of each other's interest in a room. */
const INTEREST_MS = 1_000;
/** What a node that is killed took just before may go with it. */
const UNSENT_MS = 500;
/** Seeds that share a cluster, and so its kills and drains. */
const AT_ONCE = 3;
const TABS = 4;
const TABS_MAX = 6;

const count = Number(process.env.FAULT_SEEDS ?? (process.env.CURSORMESH_LONG ? 30 : AT_ONCE));
const one = process.env.FAULT_SEED;
const seeds = one === undefined ? Array.from({ length: count }, (_, index) => index + 1) : [Number(one)];

/** Random numbers, at least 0 and less than 1 (mulberry32). */
function seeded(seed) {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A WebSocket as browsers have it. */
function plain(url, protocols) {
  const socket = new utilities.ws(url, protocols, { perMessageDeflate: false });
  socket.on("error", () => {});
  return socket;
}

/** A browser's tab: a client with wires of its own to every node. */
class Tab {
  errors = [];
  closed = false;
  /** Since when it is owed every event, and by when of each name it must have been told. */
  since = Infinity;
  position = null;
  said = 0;
  /** `{text, at, node}` of what it said. */
  sayings = [];
  heard = new Set();
  /** The newest number heard of each tab as each member. */
  lastOf = new Map();
  shown = new Set();
  /** Members it was told that left, and when. */
  lefts = [];
  /** `{id, from, to}` of absences after which it was told that nobody saw it leave. */
  recoveries = [];
  outcomes = {};
  /** `[when, what]`, for the report of a failure. */
  history = [];
  #links = new Map();
  #signals = new Set();
  #lost_at = 0;

  static async open(name, cluster, room, random, twin) {
    const tab = new Tab();
    tab.name = name;
    tab.stored = twin?.copy() ?? null;
    for (const node of cluster.names) tab.#links.set(String(cluster.port(node)), await Link.open(cluster.port(node)));
    tab.client = connect({
      url: cluster.url(cluster.names[Math.floor(random() * cluster.names.length)]),
      transports: ["websocket"],
      environment: {
        random,
        storage: { getItem: () => tab.stored, setItem: (_, value) => { tab.stored = value; }, removeItem: () => { tab.stored = null; } },
        watch: (fn) => {
          tab.#signals.add(fn);
          return () => tab.#signals.delete(fn);
        },
        report: (error) => tab.errors.push(error),
        webSocket: (url, protocols) => tab.#socket(new URL(url), protocols),
      },
    });
    tab.client.on("status", ({ state, node }) => {
      tab.history.push([Date.now(), node ? `${state} ${node}` : state]);
      if (state === "reconnecting" && !tab.#lost_at) tab.#lost_at = Date.now();
    });
    tab.enter(room);
    return tab;
  }

  get links() {
    return [...this.#links.values()];
  }

  get id() {
    return this.room.me.member?.id;
  }

  signal(signal) {
    for (const fn of [...this.#signals]) fn(signal);
  }

  /** The storage as it is in the moment in which it holds a token. */
  copy() {
    this.signal("hide");
    const { stored } = this;
    this.signal("show");
    return stored;
  }

  say() {
    const text = `${this.name} ${this.said + 1}`;
    if (!this.room.events.send("say", text)) return;
    this.said += 1;
    this.sayings.push({ text, at: Date.now(), node: this.client.status.node });
  }

  enter(name) {
    this.room = this.client.room(name, { state: { step: 0 } });
    this.shown = new Set();
    this.position = null;
    this.since = Infinity;
    const { room } = this;
    const told = (outcome, owed) => {
      this.outcomes[outcome] = (this.outcomes[outcome] ?? 0) + 1;
      this.history.push([Date.now(), outcome]);
      if (outcome === "recovered") this.recoveries.push({ id: this.id, from: this.#lost_at, to: Date.now() });
      if (owed) this.since = Date.now();
      this.#lost_at = 0;
    };
    room.on("ready", () => {
      this.since = Math.min(this.since, Date.now());
      this.history.push([Date.now(), "ready"]);
    });
    room.on("recovered", () => told("recovered", false));
    room.on("rebuilt", ({ reason }) => told(reason, true));
    room.on("dropped", ({ reason }) => assert.equal(reason, "not_connected"));
    room.on("error", ({ code, message }) => assert.fail(`${code}: ${message}`));
    room.on("others", (others) => {
      if (room !== this.room) return;
      const ids = others.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length, "a member is there twice");
      assert.ok(!ids.includes(this.id), "this client is among the others");
    });
    room.presence.on("joined", ({ member }) => {
      assert.ok(!this.shown.has(member.id), `${member.id} joined twice`);
      this.shown.add(member.id);
    });
    room.presence.on("updated", ({ member }) => assert.ok(this.shown.has(member.id), `${member.id} was updated without being there`));
    room.presence.on("left", ({ member, reason }) => {
      assert.ok(this.shown.delete(member.id), `${member.id} left without being there`);
      this.lefts.push({ id: member.id, reason, at: Date.now() });
    });
    room.cursors.on(({ member }) => assert.ok(this.shown.has(member.id), `a cursor of ${member.id}, who is not there`));
    room.events.on("say", ({ data, from }) => {
      assert.ok(!this.heard.has(data), `${data} was told twice`);
      this.heard.add(data);
      // A tab that left and came again is another member, and there is no order between members.
      const [sender, n] = data.split(" ");
      const voice = `${sender} ${from}`;
      assert.ok(Number(n) > (this.lastOf.get(voice) ?? 0), `${data} came out of order`);
      this.lastOf.set(voice, Number(n));
    });
  }

  async close() {
    this.closed = true;
    this.client.close();
    await sleep(50);
    for (const link of this.links) await link.close();
  }

  #socket(url, protocols) {
    url.port = this.#links.get(url.port).port;
    return plain(url.href, protocols);
  }
}

/** One seed: a room with tabs and their faults, and then the judgement. */
async function run(seed, cluster, kills, faults) {
  const random = seeded(seed);
  const pick = (list) => list[Math.floor(random() * list.length)];
  const room = `faults ${seed}`;
  const tabs = [];
  const open = () => tabs.filter(({ closed }) => !closed);
  const add = async (twin) => tabs.push(await Tab.open(`t${tabs.length}`, cluster, room, seeded(random() * 2 ** 32), twin));
  try {
    while (tabs.length < TABS) await add();
    // Each run has its own share of trouble: without any time to breathe little is proved.
    const trouble = 0.01 + random() * 0.05;
    await eventually("all are there", () => tabs.every((tab) => tab.room.joined && tab.room.others.length === TABS - 1));
    while (!faults.over) {
      const tab = pick(open());
      const dice = random();
      if (dice < 0.45) {
        tab.position = [Math.floor(random() * 1000), Math.floor(random() * 1000)];
        tab.room.cursors.set(...tab.position);
      } else if (dice < 0.85) tab.say();
      else if (dice < 0.98) tab.room.me.set({ step: Math.floor(random() * 1e6) });
      else if (dice < 0.985) {
        tab.room.leave();
        tab.enter(room);
      } else if (dice < 0.99 && tabs.length < TABS_MAX && tab.room.joined) await add(tab);
      if (random() < trouble) {
        const victim = pick(open());
        const kind = random();
        if (kind < 0.35) for (const link of victim.links) link.cut();
        else if (kind < 0.55) for (const link of victim.links) link.cut({ far: false });
        else if (kind < 0.65) for (const link of victim.links) link.cut({ near: false });
        else if (kind < 0.9) {
          const dead = random() < 0.5;
          for (const link of victim.links) link.pull();
          setTimeout(() => {
            for (const link of victim.links) link.plug({ dead });
            victim.signal("online");
          }, 50 + random() * 1500);
        } else victim.signal(pick(["visible", "offline", "online"]));
      }
      await sleep(STEP_MS);
    }
    await sleep(2000);
    for (const link of tabs.flatMap(({ links }) => links)) link.plug({ dead: true });

    await eventually("everyone is back", () => open().every((tab) => tab.room.joined), { within_ms: QUIET_WITHIN_MS });
    const ids = open().map(({ id }) => id).sort();
    assert.equal(new Set(ids).size, ids.length, "two tabs are one member");
    const members = async (node) => (await cluster.ask(node, `/api/rooms/${encodeURIComponent(room)}/members`)).members;
    for (const node of cluster.names) {
      await eventually(`${node} knows who is there, and of no ghost`, async () => {
        assert.deepEqual((await members(node)).map(({ id }) => id).sort(), ids);
        return true;
      }, { within_ms: QUIET_WITHIN_MS });
    }
    // The last words are the proof that nothing is under way any more.
    const last = new Map();
    for (const tab of open()) {
      tab.say();
      last.set(tab.name, tab.sayings.at(-1).text);
    }
    // Who comes now sees everyone where they are.
    for (const node of cluster.names) {
      const late = connect({ url: cluster.url(node), transports: ["websocket"], persist: false, environment: { webSocket: plain } });
      try {
        const seen = late.room(room).cursors;
        await eventually(`who comes late on ${node} sees everyone where they are`, () => {
          for (const tab of open().filter(({ position }) => position)) {
            const cursor = seen.all.find(({ member }) => member.id === tab.id);
            assert.deepEqual(cursor && [cursor.x, cursor.y], tab.position, `${tab.name}, who is on ${tab.client.status.node}`);
          }
          return true;
        });
      } finally {
        late.close();
      }
    }
    for (const tab of open()) {
      // Without those who came late and are just going.
      const rows = (await members(tab.client.status.node)).filter(({ id }) => ids.includes(id));
      await eventually(`${tab.name} is right about everything`, () => {
        const others = ids.filter((id) => id !== tab.id);
        assert.deepEqual(tab.room.others.map(({ id }) => id).sort(), others, "others");
        assert.deepEqual([...tab.shown].sort(), others, "told of others");
        for (const row of rows) {
          const seen = row.id === tab.id ? tab.room.me.member : tab.room.others.find(({ id }) => id === row.id);
          assert.deepEqual([seen.state, seen.away, seen.node], [row.state, false, row.node], "an old state");
        }
        for (const other of open()) {
          if (other === tab) continue;
          const cursor = tab.room.cursors.all.find(({ member }) => member.id === other.id);
          const where = `an old cursor of ${other.name}, who is on ${other.client.status.node}, on ${tab.client.status.node}`;
          if (other.position) assert.deepEqual(cursor && [cursor.x, cursor.y], other.position, where);
        }
        for (const text of last.values()) assert.ok(tab.heard.has(text), `${text} is not heard`);
        return true;
      });
    }
    // What its sender heard was said; it was lost only where somebody was told of a loss, or with a node.
    for (const sender of tabs) {
      for (const { text, at, node } of sender.sayings) {
        if (!sender.heard.has(text)) continue;
        if (kills.some((kill) => kill.node === node && at <= kill.at && at > kill.at - UNSENT_MS)) continue;
        for (const tab of open()) {
          const owed = at > tab.since + INTEREST_MS;
          assert.ok(!owed || tab.heard.has(text), `${tab.name} missed ${text}, said on ${node} ${at - faults.began} ms after the beginning; ${JSON.stringify(tab.outcomes)}`);
        }
      }
    }
    for (const tab of tabs) {
      for (const { id, from, to } of tab.recoveries) {
        for (const other of tabs) {
          // What a client finds out when it is back itself is about its own absence.
          const seen = other.lefts.filter((left) => left.id === id && left.at >= from && left.at <= to + 1000 && !["closed", "unknown"].includes(left.reason));
          assert.deepEqual(seen, [], `${other.name} saw ${tab.name} leave, who recovered`);
        }
      }
      assert.deepEqual(tab.errors, []);
    }
    return tabs.map(({ outcomes }) => outcomes);
  } catch (error) {
    error.message += `\n(FAULT_SEED=${seed})`;
    const when = ([at, what]) => `${at - faults.began} ${what}`;
    console.error(`nodes: ${faults.history.map(when).join(", ")}`);
    for (const tab of tabs) console.error(`${tab.name} ${tab.id}: ${tab.history.map(when).join(", ")}; ${tab.errors}`);
    throw error;
  } finally {
    await Promise.all(tabs.map((tab) => tab.close()));
  }
}

for (let first = 0; first < seeds.length; first += AT_ONCE) {
  const batch = seeds.slice(first, first + AT_ONCE);
  test(`faults, seed ${batch.join(", ")}: no duplicate member, no lost or doubled event, no stale cursor`, { timeout: 120_000 }, async (t) => {
    await withCluster(async (cluster) => {
      const random = seeded(batch[0] * 7919);
      const faults = { over: false, began: Date.now(), history: [] };
      const note = (what) => faults.history.push([Date.now(), what]);
      const kills = [];
      const runs = batch.map((seed) => run(seed, cluster, kills, faults));
      const trouble = async () => {
        const [killed, drained] = cluster.names.toSorted(() => random() - 0.5);
        await sleep(FAULTY_MS * (0.2 + 0.1 * random()));
        kills.push({ node: killed, at: Date.now() });
        note(`kill ${killed}`);
        await cluster.kill(killed);
        await sleep(random() * 2000);
        await cluster.start(killed);
        note(`started ${killed}`);
        await sleep(FAULTY_MS * (0.2 + 0.1 * random()));
        await cluster.whole();
        note(`drain ${drained}`);
        assert.equal(await cluster.terminate(drained), 0);
        await cluster.start(drained);
        note(`started ${drained}`);
        await sleep(Math.max(0, faults.began + FAULTY_MS - Date.now()));
        await cluster.whole();
      };
      const [troubled, ...results] = await Promise.allSettled([trouble().finally(() => { faults.over = true; }), ...runs]);
      const failed = [troubled, ...results].find(({ status }) => status === "rejected");
      if (failed) throw failed.reason;
      const outcomes = {};
      for (const outcome of results.flatMap(({ value }) => value)) {
        for (const [name, times] of Object.entries(outcome)) outcomes[name] = (outcomes[name] ?? 0) + times;
      }
      t.diagnostic(`came back: ${JSON.stringify(outcomes)}`);
      assert.ok(outcomes.recovered > 2, "the faults are too weak");
    }, { web: { ping_interval_ms: 1000, ping_timeout_ms: 2000 } });
  });
}
