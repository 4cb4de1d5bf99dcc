import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { RoomEvents } from "../src/api";
import type { EventMessage, WireMember } from "../src/protocol";
import { World, member, record } from "./world";

const names: (keyof RoomEvents)[] = ["ready", "recovered", "rebuilt", "dropped", "error", "ended"];

/** A client in a room with `others`. */
async function inRoom(others: WireMember[] = [], options = {}, state: Record<string, unknown> | undefined = undefined) {
  const world = new World();
  world.alive = true;
  const client = world.client({ transports: ["websocket"], ...options });
  const room = client.room<Record<string, unknown>, Record<string, unknown>>("lobby", { user: { name: "Me" }, ...(state && { state }) });
  const told = record((name, fn) => room.on(name, fn), names);
  const presence = record((name, fn) => room.presence.on(name, fn), ["joined", "updated", "left"]);
  world.socket.welcome();
  world.socket.join("lobby", others);
  return { world, client, room, told, presence, socket: world.socket };
}

/** The connection breaks and comes back. */
async function back(world: World) {
  world.socket.end();
  await world.clock.advance(1_000);
  world.socket.welcome();
  return world.socket;
}

const ids = (list: readonly { id: string }[]) => list.map(({ id }) => id);

describe("joining", () => {
  test("asks after the welcome, also for rooms that come later", async () => {
    const { world, client, socket, told } = await inRoom([], {}, { tool: "pen" });
    assert.deepEqual(socket.last("join"), { type: "join", room: "lobby", user: { name: "Me" }, state: { tool: "pen" } });
    client.room("other");
    assert.deepEqual(socket.last("join"), { type: "join", room: "other" });
    assert.deepEqual(told, [["ready", {}]]);
    assert.deepEqual(world.errors, []);
  });

  test("the same name is the same room until it is left", async () => {
    const { client, room } = await inRoom();
    assert.equal(client.room("lobby"), room);
    room.leave();
    assert.notEqual(client.room("lobby"), room);
  });

  test("members that are not listed are counted, this one too", async () => {
    const world = new World();
    const room = world.client().room("lobby");
    const counts: number[] = [];
    room.on("others", () => counts.push(room.count));
    world.socket.welcome();
    const [me, a, b] = [member("me"), member("a"), member("b")];
    world.socket.say(
      { type: "joined", room: "lobby", number: 1, self: me, token: "T", token_ms: 1, outcome: "new", positions: {} },
      { type: "snapshot", room: "lobby", version: "5", members: [a], more: false, unlisted: 7 },
    );
    assert.equal(room.count, 8);
    world.socket.say(
      { type: "presence", room: "lobby", version: "6", unlisted: 9 },
      { type: "presence", room: "lobby", version: "7", joined: [b, me], unlisted: 7 },
      { type: "presence", room: "lobby", version: "8", left: [{ id: a.id, reason: "closed" }], unlisted: 0 },
    );
    assert.equal(room.count, 2);
    assert.deepEqual(ids(room.others), [b.id]);
    assert.equal(counts.at(-1), 2);
    assert.ok(counts.includes(10));
    assert.deepEqual(world.errors, []);
  });

  test("pages are put together; nothing shows before the last", async () => {
    const world = new World();
    const room = world.client().room("lobby");
    world.socket.welcome();
    const me = member("me");
    const [a, b] = [member("a"), member("b")];
    world.socket.say(
      { type: "joined", room: "lobby", number: 1, self: me, token: "T", token_ms: 1, outcome: "new", positions: {} },
      { type: "snapshot", room: "lobby", version: "5", members: [me, a], more: true },
    );
    assert.equal(room.joined, false);
    assert.deepEqual(room.others, []);
    world.socket.say({ type: "snapshot", room: "lobby", version: "5", members: [b], more: false });
    assert.equal(room.joined, true);
    assert.deepEqual(ids(room.others), ["a", "b"]);
    assert.equal(room.me.member?.id, "me");
  });

  test("an answer that does not come ends the connection", async () => {
    const world = new World();
    const client = world.client();
    client.room("lobby");
    world.socket.welcome();
    world.socket.pong();
    await world.clock.advance(5_000);
    assert.equal(world.socket.closed?.code, 4000);
    assert.equal(client.status.state, "reconnecting");
  });

  test("a refusal is told; one that may pass is tried again, another with the next connection", async () => {
    const world = new World();
    world.alive = true;
    const client = world.client();
    const room = client.room("lobby");
    const told = record((name, fn) => room.on(name, fn), names);
    world.socket.welcome();
    world.socket.say({ type: "error", room: "lobby", code: "too_many_rooms", message: "32", retry: true });
    await world.clock.advance(1_000);
    assert.equal(world.socket.all("join").length, 2);
    world.socket.say({ type: "error", room: "lobby", code: "bad_room", message: "no", retry: false });
    await world.clock.advance(60_000);
    assert.equal(world.socket.all("join").length, 2);
    assert.deepEqual(told.map(([name]) => name), ["error", "error"]);
    const next = await back(world);
    assert.equal(next.all("join").length, 1);
  });
});

describe("leaving", () => {
  test("is told, and what still comes for the old room does not reach a new one of the same name", async () => {
    const { client, room, socket, told } = await inRoom([member("a")]);
    room.leave();
    room.leave();
    assert.equal(socket.all("leave").length, 1);
    assert.deepEqual(told.at(-1), ["ended", { reason: "closed" }]);
    const again = client.room("lobby");
    socket.join("lobby", [member("ghost")]);
    socket.say({ type: "left", room: "lobby", reason: "closed" });
    assert.equal(again.joined, false);
    assert.deepEqual(again.others, []);
    socket.join("lobby", [member("b")]);
    assert.deepEqual(ids(again.others), ["b"]);
  });

  test("one that is removed is told why, and does not come back by itself", async () => {
    const { world, room, socket, told } = await inRoom([member("a")]);
    socket.say({ type: "left", room: "lobby", reason: "kicked" });
    assert.deepEqual(told.at(-1), ["ended", { reason: "kicked" }]);
    assert.equal(room.joined, false);
    const next = await back(world);
    assert.equal(next.all("join").length, 0);
    room.cursors.set(1, 1);
    assert.equal(room.events.send("x", 1), false);
    assert.equal(room.me.set({ a: 1 }), false, "it cannot be sent");
  });

  test("close() leaves every room first", async () => {
    const { client, socket } = await inRoom();
    client.close();
    assert.deepEqual(socket.all("leave"), [{ type: "leave", room: "lobby" }]);
    assert.equal(socket.closed?.code, 1000);
  });
});

describe("presence", () => {
  test("joined, updated and left, with reasons; an update is never a leave", async () => {
    const a = member("a");
    const { room, socket, presence } = await inRoom([a]);
    const b = member("b");
    socket.say({ type: "presence", room: "lobby", version: "2", joined: [b] });
    socket.say({ type: "presence", room: "lobby", version: "3", updated: [{ ...a, away: true }] });
    socket.say({ type: "presence", room: "lobby", version: "4", left: [{ id: "a", reason: "timed_out" }] });
    const brief = presence.map(([name, event]) => {
      const { member, initial, reason } = event as { member: { id: string }; initial?: boolean; reason?: string };
      return [name, member.id, initial ?? reason ?? null];
    });
    assert.deepEqual(brief, [
      ["joined", "a", true],
      ["joined", "b", false],
      ["updated", "a", null],
      ["left", "a", "timed_out"],
    ]);
    assert.deepEqual(ids(room.others), ["b"]);
  });

  test("old diffs are ignored", async () => {
    const { room, socket } = await inRoom([member("a")]);
    socket.say({ type: "presence", room: "lobby", version: "1", left: [{ id: "a", reason: "closed" }] });
    assert.deepEqual(ids(room.others), ["a"]);
  });

  test("order and objects stay while others change", async () => {
    const [a, b] = [member("a"), member("b")];
    const { room, socket } = await inRoom([b, a]);
    assert.deepEqual(ids(room.others), ["a", "b"]);
    const before = room.others;
    socket.say({ type: "presence", room: "lobby", version: "2", updated: [{ ...b, state: { x: 1 } }] });
    assert.notEqual(room.others, before);
    assert.equal(room.others[0], before[0]);
    assert.deepEqual(ids(room.others), ["a", "b"]);
    assert.equal("alias" in (room.others[0] ?? {}), false);
  });

  test("a new list at any time replaces the old; only differences are told", async () => {
    const [a, b, c] = [member("a"), member("b"), member("c")];
    const { room, socket, presence } = await inRoom([a, b]);
    presence.length = 0;
    socket.say({ type: "snapshot", room: "lobby", version: "9", members: [a], more: true });
    socket.say({ type: "presence", room: "lobby", version: "10", joined: [member("d")] });
    socket.say({ type: "snapshot", room: "lobby", version: "9", members: [c], more: false });
    assert.deepEqual(ids(room.others), ["a", "c", "d"]);
    assert.deepEqual(presence.map(([name]) => name), ["left", "joined", "joined"]);
    assert.equal((presence[0]?.[1] as { reason: string }).reason, "unknown");
  });

  test("a handler that throws stops nothing", async () => {
    const { world, room, socket } = await inRoom();
    room.presence.on("joined", () => {
      throw new Error("mine");
    });
    socket.say({ type: "presence", room: "lobby", version: "2", joined: [member("a")] });
    assert.deepEqual(ids(room.others), ["a"]);
    assert.equal(world.errors.length, 1);
  });
});

describe("the own member", () => {
  test("set merges, never waits, and sends the newest once per frame at most", async () => {
    const { world, room, socket } = await inRoom([], {}, { a: 1 });
    assert.equal(room.me.set({ b: 2 }), true);
    room.me.set({ b: 3, a: undefined });
    assert.deepEqual(room.me.state, { b: 3 });
    assert.equal(socket.all("update").length, 0);
    await world.frame();
    assert.deepEqual(socket.all("update"), [{ type: "update", room: "lobby", state: { b: 3 } }]);
    room.me.set({ b: 3 });
    await world.frame();
    assert.equal(socket.all("update").length, 1);
  });

  test("what cannot be sent is refused, and changes nothing", async () => {
    const { room, told } = await inRoom([], {}, { a: 1 });
    const circle: Record<string, unknown> = {};
    circle.circle = circle;
    assert.equal(room.me.set({ big: "é".repeat(2_048) }), false);
    assert.equal(room.me.set(circle), false);
    assert.equal(room.me.set({ n: 1n }), false);
    assert.deepEqual(room.me.state, { a: 1 });
    assert.deepEqual(told.slice(1).map(([, error]) => (error as { code: string }).code), ["bad_state", "bad_state", "bad_state"]);
  });

  test("nothing that a page gives throws, or goes where it would close the connection with all its rooms", async () => {
    const { world, client, room, socket, told } = await inRoom([member("a")], { json: true });
    const circle: Record<string, unknown> = {};
    circle.circle = circle;
    const trap = { get name(): string { throw new Error("a trap"); } };
    const nested = (levels: number): unknown => JSON.parse("[".repeat(levels) + "]".repeat(levels));
    const any = (value: unknown) => value as never;
    for (const state of [circle, trap, { deep: nested(127) }]) assert.equal(room.me.set(state), false);
    for (const user of [{ color: NaN }, { name: circle }, { name: "é".repeat(129) }, { id: null }, trap]) assert.equal(room.me.setUser(any(user)), false);
    const refused = told.filter(([name]) => name === "error");
    assert.deepEqual([refused.length, ...new Set(refused.map(([, error]) => (error as { code: string }).code))], [8, "bad_state"]);
    for (const x of [1n, Symbol("x"), null, undefined, "5", {}, Infinity]) room.cursors.set(any(x), 1);
    for (const name of [undefined, 5, "half \ud83d"]) assert.equal(room.events.send(any(name), 1), false);
    for (const data of [circle, nested(128), () => 1, Symbol("x")]) assert.equal(room.events.send("a", data), false);
    assert.deepEqual(told.slice(-7).map(([, dropped]) => (dropped as { reason: string }).reason), [
      "bad_name", "bad_name", "bad_name", "bad_data", "bad_data", "bad_data", "bad_data",
    ]);
    await world.frame();
    for (const type of ["update", "event", "cursor"] as const) assert.deepEqual(socket.all(type), [], type);

    // What can be sent is.
    for (const value of [undefined, null, {}]) assert.equal(room.me.set(any(value)) && room.me.setUser(any(value)), true);
    assert.equal(room.me.set({ deep: nested(126), none: NaN, half: "\ud83d" }), true);
    assert.equal(room.me.setUser({ id: any(5), name: "half \ud83d", color: -0.4 - 360 }), true);
    assert.equal(room.events.send("a", nested(127)), true);
    await world.clock.advance(100);
    await world.frame();
    assert.deepEqual(socket.last("update").user, { id: "5", name: "half \ufffd", color: 0 });
    assert.equal(client.room(any(5)).name, "5");
    assert.equal(client.room("half \ud83d").name, "half \ufffd");
  });

  test("a room is joined without what cannot be sent, and says so", async () => {
    for (const options of [{ state: { n: 1n }, user: { color: 217.6 } }, { state: { big: "x".repeat(4_096) }, user: { name: 5 } }]) {
      const world = new World();
      const room = world.client().room("lobby", options as never);
      const told = record((name, fn) => room.on(name, fn), ["error"]);
      world.socket.welcome();
      const { user, state } = world.socket.last("join");
      assert.deepEqual([user?.name ?? user?.color, state], ["n" in options.state ? 218 : "5", undefined]);
      await world.clock.advance(0);
      assert.deepEqual(told.map(([, { code }]: any) => code), ["bad_state"]);
    }
  });

  test("after the end of the room setters refuse", async () => {
    const { room } = await inRoom([], {}, { a: 1 });
    room.leave();
    room.cursors.set(1, 2);
    assert.deepEqual([room.me.set({ a: 2 }), room.me.setUser({ name: "b" }), room.events.send("a", 1)], [false, false, false]);
    assert.deepEqual(room.me.state, { a: 1 });
  });

  test("setUser sends the whole user", async () => {
    const { world, room, socket } = await inRoom();
    room.me.setUser({ name: "Ada" });
    await world.frame();
    assert.deepEqual(socket.last("update").user, { id: "", name: "Ada", color: 1 });
  });

  test("set before the join goes with it; set while away goes with the next join", async () => {
    const world = new World();
    const room = world.client().room<{ a: number; b: number }>("lobby", { state: { a: 1 } });
    room.me.set({ b: 2 });
    world.socket.welcome();
    assert.deepEqual(world.socket.last("join").state, { a: 1, b: 2 });
    room.me.set({ b: 3 });
    world.socket.join();
    await world.frame();
    assert.deepEqual(world.socket.last("update").state, { a: 1, b: 3 });
    world.socket.end();
    room.me.set({ b: 4 });
    await world.clock.advance(1_000);
    world.socket.welcome();
    assert.deepEqual(world.socket.last("join").state, { a: 1, b: 4 });
    world.socket.join("lobby", [], { outcome: "recovered" });
    await world.frame();
    assert.equal(world.socket.all("update").length, 0);
  });
});

describe("sending cursors", () => {
  test("the newest per frame, in a binary frame", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    for (let i = 0; i < 5; i += 1) room.cursors.set(i, -i);
    assert.equal(socket.cursors.length, 0);
    await world.frame();
    assert.deepEqual(socket.cursors.map(([number, , x, y]) => [number, x, y]), [[7, 4, -4]]);
    await world.frame();
    assert.equal(socket.cursors.length, 1);
  });

  test("in the JSON variant as JSON", async () => {
    const { world, room, socket } = await inRoom([member("a")], { json: true });
    room.cursors.set(1.5, 2);
    await world.frame();
    assert.deepEqual({ ...socket.last("cursor"), t: 0 }, { type: "cursor", room: "lobby", t: 0, x: 1.5, y: 2 });
  });

  test("the last position always goes, also where frames stop coming", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    room.cursors.set(1, 1);
    await world.frame();
    room.cursors.set(2, 2);
    await world.clock.advance(200);
    assert.deepEqual(socket.cursors.at(-1)?.slice(2), [2, 2]);
  });

  test("a hidden tab sends with timers", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    world.signal("hidden");
    room.cursors.set(3, 3);
    await world.clock.advance(16);
    assert.deepEqual(socket.cursors.at(-1)?.slice(2), [3, 3]);
  });

  test("silent when alone; the position goes when somebody comes", async () => {
    const { world, room, socket } = await inRoom();
    room.cursors.set(1, 1);
    room.cursors.set(2, 2);
    await world.frame();
    await world.clock.advance(1_000);
    assert.equal(socket.cursors.length, 0);
    socket.say({ type: "presence", room: "lobby", version: "2", joined: [member("a")] });
    await world.frame();
    assert.deepEqual(socket.cursors.map((cursor) => cursor.slice(2)), [[2, 2]]);
  });

  /** Frames sent in a second of movement. */
  async function perSecond(world: World, room: { cursors: { set(x: number, y: number): void } }) {
    const before = world.socket.cursors.length;
    for (let i = 0; i < 62; i += 1) {
      room.cursors.set(i, i);
      await world.frame();
    }
    return world.socket.cursors.length - before;
  }

  test("less often in larger rooms", async () => {
    const room = async (size: number) => inRoom(Array.from({ length: size - 1 }, (_, i) => member(`m${i}`)));
    const rates: number[] = [];
    for (const size of [50, 51, 201, 1_001]) {
      const here = await room(size);
      rates.push(await perSecond(here.world, here.room));
    }
    assert.deepEqual(rates, [62, 31, 16, 9]);
  });

  test("less often under pressure, and as before after it", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    socket.say({ type: "pressure", room: "lobby", interval_ms: 100 });
    assert.equal(await perSecond(world, room), 9);
    socket.say({ type: "pressure", room: "lobby", interval_ms: 16 });
    await world.clock.advance(200);
    assert.ok((await perSecond(world, room)) >= 61);
  });

  test("not into a socket that is full: the newest goes when it is not", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    socket.bufferedAmount = 100_000;
    room.cursors.set(1, 1);
    await world.clock.advance(300);
    room.cursors.set(2, 2);
    await world.clock.advance(300);
    assert.equal(socket.cursors.length, 0);
    socket.bufferedAmount = 0;
    await world.clock.advance(200);
    assert.deepEqual(socket.cursors.map((cursor) => cursor.slice(2)), [[2, 2]]);
  });

  test("again after a reconnect, as positions do not survive a node", async () => {
    const { world, room } = await inRoom([member("a")]);
    room.cursors.set(5, 5);
    await world.frame();
    const next = await back(world);
    next.join("lobby", [member("a")], { outcome: "recovered" });
    await world.frame();
    assert.deepEqual(next.cursors.map((cursor) => cursor.slice(2)), [[5, 5]]);
  });

  test("a position that is none is nothing", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    room.cursors.set(NaN, 1);
    await world.frame();
    assert.equal(socket.cursors.length, 0);
  });
});

describe("others' cursors", () => {
  const at = (alias: number, x: number) => {
    const bytes = Buffer.alloc(20);
    bytes[0] = 2;
    bytes.writeUInt16LE(1, 2);
    bytes.writeUInt32LE(7, 4);
    bytes.writeUInt16LE(alias, 8);
    bytes.writeUInt16LE(1, 10);
    bytes.writeFloatLE(x, 12);
    return bytes.toString("hex");
  };

  test("carry their member; unknown aliases and the own one are nothing", async () => {
    const a = member("a", { alias: 3 });
    const { room, socket } = await inRoom([a]);
    const told: unknown[] = [];
    const off = room.cursors.on(({ member, x, y }) => told.push([member.user.name, x, y]));
    socket.bytes(at(3, 1.5));
    socket.bytes(at(44, 9));
    socket.bytes(at(99, 9));
    assert.deepEqual(told, [["a", 1.5, 0]]);
    socket.say({ type: "cursors", room: "lobby", c: [[3, 2, 7, 8]] });
    assert.deepEqual(told.at(-1), ["a", 7, 8]);
    assert.deepEqual(room.cursors.all.map(({ member, x }) => [member.id, x]), [["a", 7]]);
    off();
    socket.bytes(at(3, 2));
    assert.equal(told.length, 2);
  });

  test("go with their member, and the alias may then be another's", async () => {
    const { room, socket } = await inRoom([member("a", { alias: 3 })]);
    socket.bytes(at(3, 1));
    socket.say({ type: "presence", room: "lobby", version: "2", left: [{ id: "a", reason: "closed" }] });
    assert.equal(room.cursors.all.length, 0);
    socket.bytes(at(3, 1));
    assert.equal(room.cursors.all.length, 0);
    socket.say({ type: "presence", room: "lobby", version: "3", joined: [member("b", { alias: 3 })] });
    socket.bytes(at(3, 2));
    assert.deepEqual(room.cursors.all.map(({ member }) => member.id), ["b"]);
  });

  test("another node's aliases are others", async () => {
    const { world, room } = await inRoom([member("a", { alias: 3 }), member("b", { alias: 4 })]);
    world.socket.bytes(at(3, 1));
    const next = await back(world);
    const [a, b] = [member("a", { alias: 4 }), member("b", { alias: 3 })];
    next.join("lobby", [a, b], { outcome: "recovered" });
    next.bytes(at(3, 2));
    const positions = Object.fromEntries(room.cursors.all.map(({ member, x }) => [member.id, x]));
    assert.deepEqual(positions, { a: 1, b: 2 });
  });
});

describe("events", () => {
  const event = (n: number, more: Partial<EventMessage> = {}): EventMessage => ({
    type: "event",
    room: "lobby",
    from: "a",
    name: "hi",
    data: n,
    at: ["o1", String(n)],
    ...more,
  });

  test("send says it went; the echo has its sender", async () => {
    const { room, socket } = await inRoom([member("a")]);
    const told: unknown[] = [];
    const off = room.events.on("hi", ({ data, self, member }) => told.push([data, self, member?.id]));
    assert.equal(room.events.send("hi", 1), true);
    assert.deepEqual(socket.last("event"), { type: "event", room: "lobby", name: "hi", data: 1, ref: 1 });
    socket.say(event(1, { from: "me" }), event(2), event(3, { from: "stranger" }), event(4, { name: "other" }));
    assert.deepEqual(told, [[1, true, "me"], [2, false, "a"], [3, false, undefined]]);
    off();
    socket.say(event(5));
    assert.equal(told.length, 3);
  });

  test("send is false when dropped, and says why; a refusal comes later", async () => {
    const { world, room, socket, told } = await inRoom();
    assert.equal(room.events.send("", 1), false);
    assert.equal(room.events.send("n".repeat(65), 1), false);
    assert.equal(room.events.send("a", 1n), false);
    assert.equal(room.events.send("a", "x".repeat(16_384)), false);
    socket.bufferedAmount = 300_000;
    assert.equal(room.events.send("a", 1), false);
    socket.bufferedAmount = 0;
    assert.equal(room.events.send("b", 1), true);
    socket.say({ type: "refused", room: "lobby", ref: socket.last("event").ref ?? 0, reason: "too_fast" });
    world.socket.end();
    assert.equal(room.events.send("c", 1), false);
    assert.deepEqual(told.slice(1).map(([, dropped]) => Object.values(dropped as object).join(" ").slice(-16)), [
      " bad_name",
      "nnnnnnn bad_name",
      "a bad_data",
      "a too_big",
      "a slow_link",
      "b too_fast",
      "c not_connected",
    ]);
  });

  test("each once, whatever is sent twice", async () => {
    const { room, socket } = await inRoom([member("a")]);
    const told: unknown[] = [];
    room.events.on("hi", ({ data }) => told.push(data));
    socket.say(event(9), event(9), event(10), event(8), event(1, { at: ["o2", "1"] }), event(10));
    assert.deepEqual(told, [9, 10, 1]);
  });

  test("those before the join's positions are history", async () => {
    const world = new World();
    const room = world.client().room("lobby");
    const told: unknown[] = [];
    room.events.on("hi", ({ data }) => told.push(data));
    world.socket.welcome();
    world.socket.join("lobby", [], { positions: { o1: "5" } });
    world.socket.say(event(5), event(6));
    assert.deepEqual(told, [6]);
    // Another origin's, learnt later.
    world.socket.say({ type: "positions", room: "lobby", positions: { o1: "3", o2: "8" } });
    world.socket.say(event(7), event(8, { at: ["o2", "8"] }), event(9, { at: ["o2", "9"] }));
    assert.deepEqual(told, [6, 7, 9]);
  });
});

describe("resuming", () => {
  const event = (n: number, from = "a"): EventMessage => ({ type: "event", room: "lobby", from, name: "hi", data: n, at: ["o1", String(n)] });

  test("asks to be the same member, with what was seen and how long it was away", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    room.events.on("hi", () => {});
    socket.say(event(3), event(4));
    socket.say({ type: "token", room: "lobby", token: "T2" });
    const next = await back(world);
    assert.deepEqual(next.last("join").resume, { token: "T2", seen: { o1: "4" }, away_ms: 1_000 });
  });

  test("recovered: others see nothing, missed events come in order and once", async () => {
    const a = member("a");
    const { world, room, socket, told, presence } = await inRoom([a]);
    const events: unknown[] = [];
    room.events.on("hi", ({ data, member }) => events.push([data, member?.id]));
    socket.say(event(1));
    presence.length = told.length = 0;
    const next = await back(world);
    assert.equal(room.others.length, 1);
    const self = member("me");
    next.say(
      { type: "joined", room: "lobby", number: 2, self, token: "T2", token_ms: 1, outcome: "recovered", positions: { o1: "4" } },
      event(1),
      event(2),
      event(3, "b"),
      event(4),
    );
    assert.deepEqual(events, [[1, "a"]]);
    next.say({ type: "snapshot", room: "lobby", version: "1", members: [self, a, member("b")], more: false });
    next.say(event(4), event(5));
    assert.deepEqual(events, [[1, "a"], [2, "a"], [3, "b"], [4, "a"], [5, "a"]]);
    assert.deepEqual(told, [["recovered", {}]]);
    assert.deepEqual(presence.map(([name]) => name), ["joined"]);
  });

  test("positions count from where they stand among replayed events", async () => {
    const { world, room } = await inRoom([member("a")]);
    const events: unknown[] = [];
    room.events.on("hi", ({ data }) => events.push(data));
    const next = await back(world);
    const self = member("me");
    next.say(
      { type: "joined", room: "lobby", number: 2, self, token: "T2", token_ms: 1, outcome: "recovered", positions: {} },
      event(1),
      { type: "positions", room: "lobby", positions: { o1: "3" } },
      event(2),
      event(4),
      { type: "snapshot", room: "lobby", version: "1", members: [self], more: false },
    );
    assert.deepEqual(events, [1, 4]);
  });

  test("an event of one that left meanwhile still has its member", async () => {
    const { world, room, told } = await inRoom([member("a")]);
    const events: unknown[] = [];
    room.events.on("hi", ({ member }) => events.push(member?.id));
    const next = await back(world);
    const self = member("me");
    next.say(
      { type: "joined", room: "lobby", number: 2, self, token: "T2", token_ms: 1, outcome: "recovered", positions: {} },
      event(1),
      { type: "snapshot", room: "lobby", version: "1", members: [self], more: false },
    );
    assert.deepEqual(events, ["a"]);
    assert.equal(told.at(-1)?.[0], "recovered");
  });

  test("a replay that breaks off is asked for again from where it was", async () => {
    const { world, room, socket } = await inRoom([member("a")]);
    const events: unknown[] = [];
    room.events.on("hi", ({ data }) => events.push(data));
    socket.say(event(1));
    const self = member("me");
    const recovered = { type: "joined", room: "lobby", number: 2, self, token: "T2", token_ms: 1, outcome: "recovered", positions: { o1: "3" } } as const;
    const cut = await back(world);
    cut.say(recovered, event(2));
    const next = await back(world);
    assert.deepEqual(next.last("join").resume?.seen, { o1: "1" });
    next.say(recovered, event(2), event(3), { type: "snapshot", room: "lobby", version: "1", members: [self], more: false });
    assert.deepEqual(events, [1, 2, 3]);
  });

  for (const reason of ["too_late", "token_expired", "token_invalid", "token_wrong_subject", "events_lost"] as const) {
    test(`rebuilt, and why: ${reason}`, async () => {
      const a = member("a");
      const { world, room, told, socket } = await inRoom([a]);
      const events: unknown[] = [];
      room.events.on("hi", ({ data }) => events.push(data));
      socket.say(event(1));
      const next = await back(world);
      const fresh = reason.startsWith("token_");
      const self = member(fresh ? "me-again" : "me");
      // The server still shows the one we were; to us it is nobody.
      next.say({ type: "joined", room: "lobby", number: 2, self, token: "T2", token_ms: 1, outcome: "rebuilt", reason, positions: { o1: "9" } });
      if (reason === "events_lost") next.say(event(8), event(9));
      next.say({ type: "snapshot", room: "lobby", version: "1", members: [self, a, ...(fresh ? [member("me", { away: true })] : [])], more: false });
      next.say(event(9), event(10));
      if (fresh) {
        // Another page has it: not ours any more.
        next.say({ type: "presence", room: "lobby", version: "2", updated: [member("me")] });
        assert.deepEqual(ids(room.others), ["a", "me"]);
        next.say({ type: "presence", room: "lobby", version: "3", updated: [member("me", { away: true })] });
        assert.deepEqual(ids(room.others), ["a", "me"]);
        next.say({ type: "presence", room: "lobby", version: "4", left: [{ id: "me", reason: "timed_out" }] });
      }
      assert.deepEqual(told.at(-1), ["rebuilt", { reason }]);
      assert.deepEqual(ids(room.others), ["a"]);
      assert.deepEqual(events, reason === "events_lost" ? [1, 8, 9, 10] : [1, 10]);
    });
  }

  test("the colour that the server picked stays with a new member", async () => {
    const { world } = await inRoom();
    const next = await back(world);
    assert.deepEqual(next.last("join").user, { color: 1, name: "Me" });
  });

  test("superseded: the token is the other's; this one comes back as somebody new, and sees the other", async () => {
    const { world, room, socket, told } = await inRoom();
    socket.end(4409, "superseded");
    await world.clock.advance(1_000);
    world.socket.welcome();
    assert.equal(world.socket.last("join").resume, undefined);
    const told_of = record((name, fn) => room.presence.on(name, fn), ["joined", "left"]);
    world.socket.join("lobby", [member("me")], { self: member("me-2") });
    world.socket.say({ type: "presence", room: "lobby", version: "2", left: [{ id: "me", reason: "closed" }], joined: [member("me-3")] });
    assert.deepEqual(told_of.map(([name, event]) => `${name} ${(event as { member: { id: string } }).member.id}`), ["joined me", "left me", "joined me-3"]);
    assert.deepEqual(told.at(-1), ["rebuilt", { reason: "superseded" }]);
    assert.deepEqual(ids(room.others), ["me-3"]);
  });

  test("the old connection's end does not disturb the new one: two nodes at once", async () => {
    const { world, client, socket } = await inRoom();
    world.alive = socket.alive = false;
    await world.clock.advance(20_000);
    assert.equal(socket.closed?.code, 4000);
    await world.clock.advance(1_000);
    world.socket.alive = true;
    world.socket.welcome({ node: "n2" });
    world.socket.join("lobby", [], { outcome: "recovered" });
    socket.say({ type: "left", room: "lobby", reason: "superseded" });
    socket.end(4409, "superseded");
    await world.clock.advance(5_000);
    assert.equal(client.status.state, "connected");
    assert.equal(client.room("lobby").joined, true);
  });
});

describe("over a reload", () => {
  /** The page goes, and the next one of the same tab comes `after_ms` later. */
  async function reload(first: World, after_ms: number) {
    first.signal("hide");
    const world = new World();
    world.alive = true;
    for (const [key, value] of first.stored) world.stored.set(key, value);
    world.clock.wall = first.clock.wall + after_ms;
    return world;
  }

  test("the token is in storage only while there is no page", async () => {
    const { world, client } = await inRoom();
    assert.equal(world.stored.size, 0);
    const next = await reload(world, 800);
    assert.equal(next.stored.size, 1);
    client.close();
    const again = next.client();
    assert.equal(next.stored.size, 0);
    const room = again.room("lobby");
    const told = record((name, fn) => room.on(name, fn), names);
    next.socket.welcome();
    assert.deepEqual(next.socket.last("join").resume, { token: "T1", seen: {}, away_ms: 800 });
    next.socket.join("lobby", [], { outcome: "recovered" });
    assert.deepEqual(told.map(([name]) => name), ["ready", "recovered"]);
    again.close();
  });

  test("a tab that is duplicated while it lives copies nothing", async () => {
    const { world, client } = await inRoom();
    const twin = new World();
    for (const [key, value] of world.stored) twin.stored.set(key, value);
    const other = twin.client();
    other.room("lobby");
    twin.socket.welcome();
    assert.equal(twin.socket.last("join").resume, undefined);
    client.close();
    other.close();
  });

  test("an old token is not even tried", async () => {
    const { world, client } = await inRoom();
    const next = await reload(world, 120_000);
    client.close();
    const again = next.client();
    again.room("lobby");
    next.socket.welcome();
    assert.equal(next.socket.last("join").resume, undefined);
    again.close();
  });

  test("rooms that the next page does not enter at once keep theirs until it goes", async () => {
    const { world, client } = await inRoom();
    const next = await reload(world, 10);
    client.close();
    const again = next.client();
    next.signal("hide");
    assert.equal(next.stored.size, 1);
    again.close();
  });

  test("a room that was left leaves no token, nor does a client that is closed", async () => {
    const { world, room } = await inRoom();
    room.leave();
    world.signal("hide");
    assert.equal(world.stored.size, 0);
  });

  test("storage that is forbidden, full or full of something else costs the reload's recovery alone", async () => {
    for (const storage of [
      null,
      {
        getItem() {
          throw new Error("no");
        },
        setItem() {
          throw new Error("no");
        },
        removeItem() {},
      },
      { getItem: () => "{nonsense", setItem() {}, removeItem() {} },
      { getItem: () => '{"lobby":{"seen":3}}', setItem() {}, removeItem() {} },
    ]) {
      const world = new World();
      const client = world.client({ environment: { ...world.environment, storage } });
      client.room("lobby");
      world.socket.welcome();
      assert.equal(world.socket.last("join").resume, undefined);
      world.signal("hide");
      client.close();
    }
  });

  test("back from the cache: another page of the tab may have been us", async () => {
    const taken = await inRoom();
    taken.world.signal("hide");
    taken.world.stored.clear();
    taken.world.signal("show");
    const stranger = await back(taken.world);
    assert.equal(stranger.last("join").resume, undefined);
    taken.client.close();

    const kept = await inRoom();
    kept.world.signal("hide");
    const [key, value] = [...kept.world.stored][0] ?? ["", ""];
    kept.world.stored.set(key, value.replace("T1", "T9"));
    kept.world.signal("show");
    assert.equal(kept.world.stored.size, 0);
    const same = await back(kept.world);
    assert.equal(same.last("join").resume?.token, "T9");
    kept.client.close();
  });

  test("two clients of one page have a place each", async () => {
    const world = new World();
    const clients = [world.client(), world.client()];
    for (const [i, client] of clients.entries()) {
      client.room(`room${i}`);
      const socket = world.sockets[i];
      socket?.welcome();
      socket?.join(`room${i}`);
    }
    world.signal("hide");
    assert.equal(world.stored.size, 2);
    for (const client of clients) client.close();
  });
});
