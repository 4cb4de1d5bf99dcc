// sockjs-client as it is published, and the project's own client, in Node: on one node, and on three
// behind a load balancer that gives every request to another one.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { connect } from "../../web/dist/cursormesh.mjs";
import { Balancer, PlainBalancer } from "./harness/balancer.mjs";
import { withCluster, withNode } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { NODE_TRANSPORTS, sessions } from "./harness/sockjs.mjs";

/** What a client may have to wait until it knows that its session's node is gone. */
const CLOSED_WITHIN_MS = 6_000;
const SESSIONS_OF_EACH = Number(process.env.CURSORMESH_LONG ? 200 : 60);
const ROOM_OF = 12;
const SAYINGS = 10;
/** Messages in a row, between pauses. */
const BURST = 5;

/** One test for each transport, all at once. */
const each = (transports, scenario) => Promise.all(transports.map(async (transport) => {
  try {
    await scenario(transport);
  } catch (error) {
    error.message = `${transport}: ${error.message}`;
    throw error;
  }
}));

/** Has a session that echoes say these texts, and waits until they are back. */
async function echoed(session, texts) {
  const before = session.texts.length;
  for (const text of texts) session.send(text);
  await eventually("everything came back", () => session.ending ?? session.texts.length >= before + texts.length, { every_ms: 10 });
  assert.equal(session.ending, null);
  assert.deepEqual(session.texts.slice(before), texts);
}

test("one node: every transport echoes in order and whole, is closed with 3000, and is told when its node is gone", { timeout: 90_000 }, async (t) => {
  await withNode(async (node) => {
    const open = sessions(t);
    await each(NODE_TRANSPORTS, async (transport) => {
      const echo = await open(node.url("/echo"), transport);
      assert.equal(echo.transport, transport);
      // An event stream opens again after each 4 KiB here, and takes its time for that.
      for (let round = 0; round < 3; round += 1) {
        await echoed(echo, Array.from({ length: 100 }, (_, n) => `${round} ${n} ${"x".repeat((n * 37) % 100)}`));
      }
      // As much as a node takes, and what is several times as long once it is escaped.
      await echoed(echo, ["b".repeat(65_000), "ä€".repeat(8_000), "\"\\\u2028".repeat(5_000)]);

      const closing = await open(node.url("/close"), transport).catch((error) => error);
      // It may be closed before anybody looks.
      const ending = closing instanceof Error ? JSON.parse(/\{.*\}/.exec(closing.message)[0]) : await closing.closed();
      assert.deepEqual(ending, { code: 3000, reason: "Go away!" });

      const cookies = await open(node.url("/cookie_needed_echo"), transport);
      await echoed(cookies, ["here"]);
      cookies.close();
      assert.equal((await cookies.closed()).code, 1000);
    });
    const disabled = await open(node.url("/disabled_websocket_echo"), null);
    assert.equal(disabled.transport, "xhr-streaming", "the client is told that there is no WebSocket");
    const free = await open(node.url("/echo"), null);
    assert.equal(free.transport, "websocket");

    await t.test("a message may be as long on one transport as on another", () =>
      each(NODE_TRANSPORTS, async (transport) => echoed(await open(node.url("/echo"), transport), ["😀".repeat(10_000)])));
    await t.test("many messages at once", () =>
      each(NODE_TRANSPORTS, async (transport) => {
        const echo = await open(node.url("/echo"), transport);
        await echoed(echo, Array.from({ length: 500 }, (_, n) => `${n} ${"x".repeat(200)}`));
        await echoed(echo, ["one more"]);
      }));

    const lost = await Promise.all(NODE_TRANSPORTS.map((transport) => open(node.url("/echo"), transport)));
    await node.kill();
    // An event stream tries again for ever, and learns the truth once a node answers.
    const told = [...lost, disabled, free].filter(({ transport }) => transport !== "eventsource");
    await Promise.all(told.map((session) => session.closed({ within_ms: CLOSED_WITHIN_MS })));
    await node.start();
    await Promise.all(lost.map((session) => session.closed({ within_ms: CLOSED_WITHIN_MS })));
    await each(NODE_TRANSPORTS, async (transport) => echoed(await open(node.url("/echo"), transport), ["again"]));
  }, ["--conformance"]);
});

/** Who is in a room of the raw protocol, each with a name. */
class Party {
  constructor(people) {
    this.people = people.map((session, index) => {
      const person = { session, name: `${session.transport} ${index}`, sender: null, met: new Set(), counts: {} };
      session.onText = (text) => {
        const { hello, name, n, sender } = JSON.parse(text);
        if (hello === person.name) person.sender = sender;
        if (hello) person.met.add(hello);
        if (n) (person.counts[name] ??= []).push(n);
      };
      return person;
    });
  }

  /** Has all say their name until all have heard all: nodes know of each other's interest then. */
  async met() {
    const unheard = () => this.people.filter(({ name }) => this.people.some(({ met }) => !met.has(name)));
    const ended = () => this.people.filter(({ session }) => session.ending);
    await eventually("everyone hears everyone", () => {
      const names = unheard();
      for (const { session, name } of names) session.send(JSON.stringify({ hello: name }));
      return names.length === 0 || ended().length > 0;
    }, { within_ms: 30_000, every_ms: 1000 }).catch((error) => {
      error.message += `; not heard by all: ${unheard().map(({ name }) => name).join(", ")}`;
      throw error;
    });
    assert.deepEqual(ended().map(({ name, session }) => [name, session.ending]), []);
  }

  /** Has all count aloud, and waits until all have heard that: once, in order, nothing left out. */
  async count(times = SAYINGS) {
    for (const person of this.people) person.counts = {};
    for (let n = 1; n <= times; n += 1) {
      for (const { session, name } of this.people) session.send(JSON.stringify({ name, n }));
      if (n % BURST === 0) await sleep(50);
    }
    const wanted = Object.fromEntries(this.people.map(({ name }) => [name, Array.from({ length: times }, (_, index) => index + 1)]));
    for (const { session, name, counts } of this.people) {
      await eventually(`${name} has heard everything`, () => {
        assert.equal(session.ending, null);
        return Object.values(counts).reduce((sum, list) => sum + list.length, 0) >= this.people.length * times;
      }, { within_ms: 20_000 }).catch((error) => {
        error.message += `; it heard ${JSON.stringify(counts)}`;
        throw error;
      });
      assert.deepEqual(counts, wanted, `what ${name} heard`);
    }
  }

  /** The node of each, by what the cluster says. */
  async places(cluster, room) {
    const { members } = await cluster.ask(cluster.names[0], `/api/rooms/${room}/members`);
    for (const person of this.people) {
      person.node = members.find(({ id }) => id === person.sender)?.node;
      assert.ok(person.node, `${person.name} is in the room`);
    }
  }
}

/** As many sessions of each transport, in rooms that hold some of each. */
async function crowd(open, url, of_each) {
  const rooms = new Map();
  await each(NODE_TRANSPORTS, async (transport) => {
    await Promise.all(Array.from({ length: of_each }, async (_, index) => {
      const room = `room-${Math.floor(index / (ROOM_OF / NODE_TRANSPORTS.length))}`;
      const session = await open(`${url}?room=${room}`, transport);
      rooms.set(room, [...(rooms.get(room) ?? []), session]);
    }));
  });
  return [...rooms.values()].map((people) => new Party(people));
}

/** Asserts that requests of sessions were spread. */
function assertSpread(balancer) {
  for (const what of ["xhr", "xhr_send"]) {
    assert.equal(Object.keys(balancer.taken[what]).length, 3, `${what}: ${JSON.stringify(balancer.taken)}`);
  }
}

test("three nodes behind a balancer without sticky sessions: nothing lost, doubled or out of order", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const open = sessions(t);
    const ports = cluster.names.map((node) => cluster.port(node));

    await t.test("clients that do not know of nodes", async () => {
      const balancer = await PlainBalancer.open(t, ports);
      const parties = await crowd(open, balancer.url("/ws"), SESSIONS_OF_EACH);
      await Promise.all(parties.map((party) => party.met()));
      await Promise.all(parties.map((party) => party.count()));
      assertSpread(balancer);
      for (const { people } of parties) for (const { session } of people) session.close();
    });

    await t.test("clients whose addresses name a node", async () => {
      const balancer = await Balancer.open(t, ports);
      const party = new Party(await Promise.all(NODE_TRANSPORTS.flatMap((transport) =>
        Array.from({ length: 6 }, () => open(balancer.url("/ws"), transport)))));
      await party.met();
      await party.count();
      assertSpread(balancer);
      for (const { session } of party.people) session.close();
    });

    await t.test("an address with a room leads into that room", async () => {
      const balancer = await Balancer.open(t, ports);
      const party = new Party(await Promise.all(NODE_TRANSPORTS.map((transport) => open(balancer.url("/ws?room=blue"), transport))));
      await party.met();
      await party.places(cluster, "blue");
    });
    // All clients and the balancer are in this one process, which on a busy machine keeps polls waiting.
  }, { web: { sockjs_disconnect_ms: 30_000 } });
});

test("a node that is killed takes its sessions with it, everybody is told, and comes back elsewhere", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const open = sessions(t);
    const ports = cluster.names.map((node) => cluster.port(node));
    const balancers = [await PlainBalancer.open(t, ports), await Balancer.open(t, ports)];
    const party = new Party(await Promise.all(balancers.flatMap((balancer) =>
      NODE_TRANSPORTS.flatMap((transport) => Array.from({ length: 6 }, () => open(balancer.url("/ws"), transport))))));
    await party.met();
    await party.places(cluster, "lobby");
    const victims = party.people.filter(({ node }) => node === "n2");
    for (const transport of NODE_TRANSPORTS) assert.ok(victims.some(({ session }) => session.transport === transport), `${transport} on n2`);

    // The project's own client, and somebody who watches it.
    const watcher = connect({ url: cluster.url("n3"), transports: ["sockjs"], persist: false });
    const watched = watcher.room("v1", { user: { name: "Watcher" } });
    const left = [];
    watched.presence.on("left", ({ member, reason }) => left.push(`${member.user.name} ${reason}`));
    await eventually("the watcher is there", () => watched.joined);
    const movers = [];
    t.after(() => {
      for (const { client } of [...movers, { client: watcher }]) client.close();
    });
    for (let number = 1; number <= 6; number += 1) {
      const client = connect({ url: balancers[0].url(), transports: ["sockjs"], persist: false });
      const room = client.room("v1", { user: { name: `Mover ${number}` } });
      const mover = { client, room, told: [], heard: [] };
      for (const what of ["recovered", "rebuilt"]) room.on(what, (event) => mover.told.push([what, event.reason]));
      room.events.on("count", ({ data }) => mover.heard.push(data));
      movers.push(mover);
    }
    await eventually("all are there", () => movers.every(({ room }) => room.joined && room.others.length === movers.length));
    const moved = movers.filter(({ room }) => room.me.member.node === "n2");
    assert.ok(moved.length > 0, "somebody is on n2");
    const ids = movers.map(({ room }) => room.me.member.id);

    const killed = Date.now();
    await cluster.kill("n2");
    await Promise.all(victims.map(async ({ session, name }) => {
      const ending = await session.closed({ within_ms: CLOSED_WITHIN_MS }).catch((error) => assert.fail(`${name}: ${error.message}`));
      t.diagnostic(`${name}: closed with ${ending.code} ${ending.reason} after ${Date.now() - killed} ms`);
    }));
    const others = party.people.filter((person) => !victims.includes(person));
    for (const { session, name } of others) {
      if (session.transport === "websocket") assert.equal(session.ending, null, `${name} has nothing to do with n2`);
    }
    await eventually("the own clients of n2 are back", () => moved.every(({ room, told }) => room.joined && told.length > 0), { within_ms: 15_000 });
    t.diagnostic(`own clients of n2: ${JSON.stringify(moved.map(({ told }) => told))} after ${Date.now() - killed} ms`);
    for (const { told } of moved) assert.deepEqual(told, [["recovered", undefined]]);

    // Whoever lost a session opens another, and whoever is there hears everyone.
    const open_again = await Promise.all(party.people.filter(({ session }) => session.ending).map(({ session }, index) =>
      open(balancers[index % 2].url("/ws"), session.transport)));
    t.diagnostic(`${victims.length} sessions were on n2; ${open_again.length} of ${party.people.length} ended`);
    const after = new Party([...party.people.filter(({ session }) => !session.ending).map(({ session }) => session), ...open_again]);
    await after.met();
    await after.count();

    const last = `said by ${movers[0].room.me.member.id}`;
    movers[0].room.events.send("count", last);
    await eventually("the own clients hear each other", () => movers.every(({ heard }) => heard.includes(last)));
    assert.deepEqual(movers.map(({ room }) => room.me.member.id), ids);
    assert.deepEqual(left, [], "nobody was seen to leave");
  });
});
