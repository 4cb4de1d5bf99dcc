/** What helpers keep in a member's state, and cursors per frame: with rooms in a world without a browser. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Member, Room } from "../src/api";
import { type SmoothCursor, chat, idle, isIdle, reactions, smooth } from "../src/ui/index";
import { onEnd, ownOf, setOwn } from "../src/ui/own";
import { World, member } from "./world";

function room(state?: Record<string, unknown>): { world: World; room: Room } {
  const world = new World();
  const client = world.client();
  const made = client.room("lobby", state ? { state } : {}) as unknown as Room;
  world.socket.welcome();
  return { world, room: made };
}

const withState = (state: unknown): Member => ({ ...member("m"), state }) as Member;

test("one helper does not take away what another keeps, nor what the page keeps", () => {
  const { room: one } = room({ tool: "pen" });
  setOwn(one, { anchor: [1, "table"] });
  setOwn(one, { chat: "hello" });
  assert.deepEqual(one.me.state, { tool: "pen", cursormesh: { anchor: [1, "table"], chat: "hello" } });
  setOwn(one, { anchor: undefined });
  assert.deepEqual(one.me.state, { tool: "pen", cursormesh: { chat: "hello" } });
  one.me.set({ tool: "eraser" } as never);
  setOwn(one, { chat: undefined });
  assert.deepEqual(one.me.state, { tool: "eraser" });
});

test("a page's own nonsense under the key is replaced, and nothing is sent for nothing", () => {
  const { room: one } = room();
  setOwn(one, { chat: undefined });
  assert.deepEqual(one.me.state, {});
  one.me.set({ cursormesh: [1, 2] } as never);
  setOwn(one, { idle: true });
  assert.deepEqual(one.me.state, { cursormesh: { idle: true } });
});

test("a room that is over is left alone", () => {
  const { room: one } = room();
  const errors: unknown[] = [];
  one.on("error", (error) => errors.push(error));
  onEnd(one, () => setOwn(one, { idle: true }));
  one.leave();
  assert.deepEqual(errors, []);
});

test("of a stranger's state only what is as it should be counts", () => {
  const good = { anchor: [63, "a"], touch: true, idle: true, chat: "hi", follow: "m", view: [0, 0.5, 1, 0.25] };
  assert.deepEqual(ownOf(withState({ cursormesh: good, more: 1 })), good);
  const bad: unknown[] = [
    null, 1, "x", [], { cursormesh: null }, { cursormesh: "x" }, { cursormesh: [] }, { cursormesh: { anchor: "a" } },
    { cursormesh: { anchor: [0, "a"] } }, { cursormesh: { anchor: [64, "a"] } }, { cursormesh: { anchor: [1.5, "a"] } }, { cursormesh: { anchor: ["1", "a"] } },
    { cursormesh: { anchor: [1, {}] } }, { cursormesh: { anchor: [1, "a", 2] } }, { cursormesh: { anchor: [1, "a".repeat(129)] } },
    { cursormesh: { touch: 1, idle: "true", chat: 5, follow: {}, view: [1, 2, 3] } }, { cursormesh: { view: [1, 2, 3, "4"] } },
    { cursormesh: { view: [1, 2, 3, null] } }, { cursormesh: { view: [1e9, 0, 0, 0] } }, { cursormesh: { chat: "x".repeat(2_001) } }, { __proto__: { cursormesh: 1 } },
  ];
  for (const state of bad) assert.deepEqual(ownOf(withState(state)), {}, JSON.stringify(state));
  assert.equal(isIdle(withState({ cursormesh: { idle: true } })), true);
});

test("what is said is in the state until it is taken back, cut to 200 characters", () => {
  const { room: one } = room();
  const said = chat(one);
  said.say(`${"a".repeat(300)}`);
  assert.deepEqual(one.me.state, { cursormesh: { chat: `${"a".repeat(200)}…` } });
  said.say("short");
  assert.deepEqual(one.me.state, { cursormesh: { chat: "short" } });
  assert.equal(said.of(withState({ cursormesh: { chat: "a\u202e\nb" } })), "a b");
  assert.equal(said.of(withState({ cursormesh: { chat: { length: 1 } } })), null);
  said.stop();
  assert.deepEqual(one.me.state, {});
});

/** Animation frames when the test says so. */
function frames(): (now_ms: number) => void {
  let asked: ((now_ms: number) => void)[] = [];
  globalThis.requestAnimationFrame = (fn) => asked.push(fn);
  return (now_ms) => {
    const now = asked;
    asked = [];
    for (const fn of now) fn(now_ms);
  };
}

test("cursors per frame: between the samples, still when they stand, gone with nowhere and with their member", () => {
  const frame = frames();
  const { world, room: one } = room();
  const other = member("ben", { alias: 3 });
  world.socket.join("lobby", [other]);
  const cursors = smooth(one);
  const told: (readonly SmoothCursor[])[] = [];
  cursors.on((all) => told.push(all));
  const bytes = (time: number, x: number, y: number) => {
    const view = new DataView(new ArrayBuffer(20));
    view.setUint8(0, 2);
    view.setUint16(2, 1, true);
    view.setUint32(4, 7, true);
    view.setUint16(8, 3, true);
    view.setUint16(10, time, true);
    view.setFloat32(12, x, true);
    view.setFloat32(16, y, true);
    world.socket.bytes(Buffer.from(view.buffer).toString("hex"));
  };
  const start_ms = performance.now();
  bytes(100, 0, 0);
  frame(start_ms + 1);
  assert.deepEqual(told.at(-1)?.map(({ member, x, y }) => [member.id, x, y]), [["ben", 0, 0]]);
  bytes(120, 100, 50);
  let now_ms = performance.now();
  for (let i = 0; i < 60; i += 1) frame((now_ms += 16));
  const xs = told.map(([cursor]) => cursor?.x ?? NaN);
  assert.ok(xs.every((x, at) => at === 0 || x >= (xs[at - 1] ?? 0)), "only forwards");
  assert.deepEqual([told.at(-1)?.[0]?.x, told.at(-1)?.[0]?.y, told.at(-1)?.[0]?.moving], [100, 50, false]);
  const { length } = told;
  for (let i = 0; i < 10; i += 1) frame((now_ms += 16));
  assert.equal(told.length, length, "nothing is told while nothing moves");

  bytes(140, -10_000, -10_000);
  frame((now_ms += 16));
  assert.deepEqual(told.at(-1), []);
  bytes(160, 5, 5);
  frame((now_ms += 16));
  assert.deepEqual(cursors.all.map(({ x, y }) => [x, y]), [[5, 5]]);
  world.socket.say({ type: "presence", room: "lobby", version: "2", left: [{ id: "ben", reason: "closed" }] });
  frame((now_ms += 16));
  assert.deepEqual(cursors.all, []);
  cursors.stop();
});

test("helpers keep the types of the room that they are given", () => {
  // Checked by the compiler; it is not called.
  const typed = (one: Room<{ tool: string }, { ping: null }>, place: Element) => {
    smooth(one).on(([cursor]) => void (cursor?.member.state?.tool satisfies string | undefined));
    reactions(one, place).on(({ member }) => void (member?.state?.tool satisfies string | undefined));
    idle(one, { after_ms: 1 });
    // @ts-expect-error: not an option
    idle(one, { after: 1 });
  };
  assert.equal(typeof typed, "function");
});
