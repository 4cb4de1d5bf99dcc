/**
 * Clients on a cluster that breaks in every way, against what must hold all the time and what must
 * hold once it is quiet. Seeds: `FAULT_SEEDS=500 scripts/client test faults`, one: `FAULT_SEED=17`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Room } from "../src/api";
import type { ClientCore } from "../src/client";
import { Cluster } from "./cluster";
import { Clock, World, seeded } from "./world";

const FAULTY_MS = 90_000;
const QUIET_MS = 60_000;

/** A tab under judgement. */
class Tab {
  readonly world: World;
  readonly client: ClientCore;
  room!: Room;
  /** The members that presence events say are there. */
  shown = new Map<string, true>();
  readonly heard = new Set<unknown>();
  /** The newest number heard of each origin is not visible to a page; its data says it. */
  lastOf = new Map<string, number>();
  position: [number, number] | null = null;
  closed = false;
  /** What the tab's storage holds. */
  stored: string | null;

  /** `twin`: the tab whose storage this one was made with. */
  constructor(
    readonly name: string,
    readonly cluster: Cluster,
    twin?: Tab,
  ) {
    this.stored = twin?.copy() ?? null;

    this.world = new World(cluster.clock);
    this.world.hidden = true;
    const random = seeded(cluster.random() * 2 ** 32);
    const storage = {
      getItem: () => this.stored,
      setItem: (_: string, value: string) => void (this.stored = value),
      removeItem: () => void (this.stored = null),
    };
    const environment = { ...this.world.environment, random, storage, webSocket: (url: string) => cluster.connect(name, url) };
    this.client = this.world.client({ environment, url: `ws://n${1 + Math.floor(random() * 3)}.test/v1`, token: name, transports: ["websocket"] });
    this.enter();
  }

  /** As if the browser had copied the storage in the moment in which it holds a token. */
  copy(): string | null {
    this.world.signal("hide");
    const { stored } = this;
    this.world.signal("show");
    return stored;
  }

  enter(): void {
    this.shown = new Map();
    this.position = null;
    this.room = this.client.room("lobby");
    const { room, cluster } = this;
    const here = (fn: () => void) => () => room === this.room && fn();
    const others = () => {
      const ids = room.others.map(({ id }) => id);
      assert.equal(new Set(ids).size, ids.length, "a member is there twice");
      assert.ok(!ids.includes(room.me.member?.id ?? ""), "this client is among the others");
      const order = room.others.map(({ joined_at }) => joined_at);
      assert.deepEqual(order, [...order].sort((a, b) => a - b), "the order is not by age");
    };
    room.on("others", here(others));
    room.on("rebuilt", ({ reason }) => reason === "superseded" && (cluster.outcomes[reason] = (cluster.outcomes[reason] ?? 0) + 1));
    room.presence.on("joined", ({ member }) => {
      assert.ok(!this.shown.has(member.id), `${member.id} joined twice`);
      this.shown.set(member.id, true);
    });
    room.presence.on("updated", ({ member }) => assert.ok(this.shown.has(member.id), `${member.id} was updated without being there`));
    room.presence.on("left", ({ member }) => {
      assert.ok(this.shown.delete(member.id), `${member.id} left without being there`);
      assert.ok(this.cluster.leaves.has(member.id), `${member.id} was said to leave and did not`);
    });
    room.cursors.on(({ member }) => assert.ok(this.shown.has(member.id), `a cursor of ${member.id}, who is not there`));
    room.events.on("say", ({ data }) => {
      assert.ok(!this.heard.has(data), `event ${String(data)} was told twice`);
      this.heard.add(data);
      const [sender = "", n] = String(data).split(" ");
      assert.ok(Number(n) > (this.lastOf.get(sender) ?? 0), `event ${String(data)} came out of order`);
      this.lastOf.set(sender, Number(n));
    });
  }
}

async function run(seed: number): Promise<Record<string, number>> {
  const random = seeded(seed);
  const clock = new Clock();
  const cluster = new Cluster(clock, random);
  const tabs: Tab[] = [];
  const pick = <T>(list: readonly T[]): T | undefined => list[Math.floor(random() * list.length)];
  let said = 0;
  /** Faults that leave no time to breathe prove little: each run has its own share. */
  const trouble = 0.02 + random() * 0.15;

  const end = clock.now + FAULTY_MS;
  while (clock.now < end) {
    if (tabs.length < 2 || (tabs.length < 6 && random() < 0.02)) tabs.push(new Tab(`t${tabs.length}`, cluster));
    const tab = pick(tabs.filter(({ closed }) => !closed));
    if (tab) {
      const dice = random();
      if (dice < 0.5) {
        tab.position = [Math.floor(random() * 1_000), Math.floor(random() * 1_000)];
        tab.room.cursors.set(...tab.position);
      } else if (dice < 0.8) {
        tab.room.events.send("say", `${tab.name} ${(said += 1)}`);
      } else if (dice < 0.95) {
        tab.room.me.set({ step: said });
      } else if (dice < 0.97) {
        tab.room.leave();
        tab.enter();
      } else if (dice < 0.98 && tabs.length < 9 && tab.room.joined) {
        tabs.push(new Tab(`t${tabs.length}`, cluster, tab));
      } else if (dice < 0.985 && tabs.length > 3) {
        tab.closed = true;
        tab.client.close();
      }
    }
    if (random() < trouble) {
      const dice = random();
      const connection = pick(cluster.connections);
      const up = cluster.nodes.filter(({ up }) => up);
      const node = pick(up);
      if (dice < 0.6 && connection) cluster.cut(connection);
      else if (dice < 0.75 && node && up.length > 1) cluster.kill(node, random() * 15_000);
      else if (dice < 0.9 && node && up.length > 1) cluster.drain(node, random() * 5_000);
      else if (dice < 0.95 && tab && connection) {
        cluster.offline.add(tab.name);
        clock.timer(() => cluster.offline.delete(tab.name), random() * 60_000);
        for (const one of cluster.connections) if (one.tab === tab.name) cluster.cut(one);
      } else pick(tabs)?.world.signal(pick(["visible", "online", "offline"] as const) ?? "online");
    }
    await clock.advance(random() < 0.02 ? random() * 8_000 : random() * 300);
  }

  cluster.calm = true;
  cluster.offline.clear();
  await clock.advance(QUIET_MS);

  const open = tabs.filter(({ closed }) => !closed);
  const truth = [...cluster.rows.values()];
  assert.equal(truth.length, open.length, "a ghost, or somebody missing");
  for (const tab of open) {
    assert.equal(tab.room.joined, true, `${tab.name} is not back: ${JSON.stringify(tab.client.status)}`);
    const me = tab.room.me.member?.id;
    const others = truth.filter(({ member }) => member.id !== me).map(({ member }) => member.id).sort();
    assert.deepEqual(tab.room.others.map(({ id }) => id).sort(), others, `${tab.name} sees others`);
    assert.deepEqual([...tab.shown.keys()].sort(), others, `${tab.name} was told of others`);
    for (const { member } of truth) {
      const seen = member.id === me ? tab.room.me.member : tab.room.others.find(({ id }) => id === member.id);
      assert.deepEqual([seen?.state, seen?.away, seen?.node], [member.state, false, member.node], "an old state");
    }
    for (const other of open) {
      if (other === tab || !other.position) continue;
      const cursor = tab.room.cursors.all.find(({ member }) => member.id === other.room.me.member?.id);
      assert.deepEqual(cursor && [cursor.x, cursor.y], other.position, `${tab.name} sees an old cursor of ${other.name}`);
    }
    for (const data of cluster.due.get(tab.name) ?? []) assert.ok(tab.heard.has(data), `${tab.name} missed event ${String(data)}`);
    assert.deepEqual(tab.world.errors, [], "a judge's own complaint, or an error in the client");
  }
  for (const tab of tabs) assert.deepEqual(tab.world.errors, []);
  for (const tab of open) tab.client.close();
  return cluster.outcomes;
}

const one = process.env["FAULT_SEED"];
const count = Number(process.env["FAULT_SEEDS"] ?? 60);
const seeds = one === undefined ? Array.from({ length: count }, (_, i) => i + 1) : [Number(one)];

test(`${seeds.length} seeds of faults: no duplicate member, no lost or doubled event, no stale cursor`, async () => {
  const outcomes: Record<string, number> = {};
  for (const seed of seeds) {
    try {
      for (const [name, times] of Object.entries(await run(seed))) outcomes[name] = (outcomes[name] ?? 0) + times;
    } catch (error) {
      console.error(`FAULT_SEED=${seed} scripts/client test faults`);
      throw error;
    }
  }
  console.log(`joins: ${JSON.stringify(outcomes)}`);
  if (one === undefined) for (const name of ["new", "recovered", "too_late", "token_expired", "events_lost", "superseded"]) assert.ok(outcomes[name], `no join was ${name}: the faults are too weak`);
});
