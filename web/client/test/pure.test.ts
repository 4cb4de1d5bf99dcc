import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { wait_ms } from "../src/backoff";
import { verdict, type Verdict } from "../src/closing";
import { interval_ms, sample } from "../src/cursors";
import { Emitter } from "../src/emitter";
import { decodeCursors, encodeCursor } from "../src/frames";
import { Ladder } from "../src/ladder";
import { Nodes, endpoint } from "../src/nodes";
import { applyDiff, applySnapshot, inOrder, type Change } from "../src/presence";
import { isAfter, parse, type Welcome } from "../src/protocol";
import { member, seeded } from "./world";

const backoff: Verdict = { retry: "backoff", move: true, retry_ms: null };

describe("back-off", () => {
  test("the first retry is inside 1 s, and jitter is full", () => {
    assert.equal(wait_ms(backoff, 0, 1, 0), 0);
    assert.ok(wait_ms(backoff, 0, 1, 0.999) < 1_000);
  });
  test("the ceiling doubles up to 30 s", () => {
    const ceilings = [0, 1, 2, 3, 4, 5, 6, 100].map((tries) => wait_ms(backoff, tries, 1, 1));
    assert.deepEqual(ceilings, [1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
  });
  test("other nodes are tried before the ceiling rises, three at most", () => {
    assert.deepEqual([0, 1, 2, 3].map((tries) => wait_ms(backoff, tries, 2, 1)), [1_000, 1_000, 2_000, 2_000]);
    assert.equal(wait_ms(backoff, 3, 50, 1), 2_000);
  });
  test("the server's wish counts, and is a lower bound later", () => {
    const wish: Verdict = { ...backoff, retry_ms: 700 };
    assert.equal(wait_ms(wish, 0, 1, 0.9), 700);
    assert.equal(wait_ms(wish, 2, 1, 0), 700);
    assert.equal(wait_ms(wish, 4, 1, 1), 16_000);
  });
  test("at once is at once, the first time", () => {
    assert.equal(wait_ms({ ...backoff, retry: "at_once" }, 0, 1, 0.9), 0);
    assert.equal(wait_ms({ ...backoff, retry: "at_once" }, 1, 1, 0.5), 1_000);
  });
});

describe("close codes", () => {
  const table: [number, Verdict["retry"], boolean][] = [
    [1000, "never", false],
    [1001, "at_once", false],
    [1002, "minute", false],
    [1006, "backoff", true],
    [1007, "minute", false],
    [1009, "backoff", false],
    [1011, "backoff", true],
    [1012, "spread", true],
    [1013, "backoff", true],
    [4400, "never", false],
    [4401, "token", false],
    [4403, "never", false],
    [4408, "backoff", false],
    [4409, "backoff", false],
    [4429, "backoff", false],
  ];
  for (const [code, retry, move] of table) {
    test(`${code}: ${retry}`, () => assert.deepEqual(verdict(code, "why"), { retry, move, retry_ms: null }));
  }
  test("a wish is read where it is one", () => {
    assert.equal(verdict(1012, '{"retry_ms":500}').retry_ms, 500);
    assert.equal(verdict(1013, '{"retry_ms":9e9}').retry_ms, 60_000);
    for (const text of ["{", '{"retry_ms":-1}', '{"retry_ms":"1"}', "{}", "soon"]) assert.equal(verdict(1012, text).retry_ms, null);
  });
});

describe("nodes", () => {
  const welcome = (node: string, nodes: Welcome["nodes"]) => ({ node, nodes }) as Welcome;
  test("the current one, then as the cluster says, then the given", () => {
    const nodes = new Nodes(["ws://lb.test/v1", "ws://old.test/v1"]);
    nodes.learn(welcome("n1", [{ node: "n1", region: "eu", url: "ws://n1.test/v1" }, { node: "n2", region: "eu", url: "http://n2.test" }, { node: "n3", region: "us" }]));
    const order: string[] = [];
    for (let i = 0; i < nodes.count; i += 1) {
      order.push(nodes.current);
      nodes.move();
    }
    assert.deepEqual(order, ["ws://lb.test/v1", "ws://n2.test/v1", "ws://old.test/v1", "ws://n1.test/v1"]);
  });
  test("addresses", () => {
    assert.equal(endpoint("https://a.test"), "wss://a.test/v1");
    assert.equal(endpoint("http://a.test:7071/x#y"), "ws://a.test:7071/x");
    assert.equal(endpoint("/v1", "https://b.test/page"), "wss://b.test/v1");
    assert.equal(endpoint("ftp://a.test"), null);
    assert.equal(endpoint("nonsense"), null);
  });
});

describe("ladder", () => {
  const websocket = (lived_ms: number | null, abnormal = true) => ({ transport: "websocket" as const, lived_ms, abnormal });
  const sockjs = (lived_ms: number | null) => ({ transport: "sockjs" as const, lived_ms, abnormal: true });
  const ladder = () => new Ladder(["websocket", "sockjs"]);
  test("a WebSocket that twice does not open makes way for SockJS", () => {
    const one = ladder();
    one.ended(websocket(null));
    assert.equal(one.transport, "websocket");
    one.ended(websocket(null));
    assert.equal(one.transport, "sockjs");
    assert.equal(one.fallback, "WebSocket does not open");
  });
  test("one that has worked here gets twice as many tries", () => {
    const one = ladder();
    one.ended(websocket(60_000));
    for (let i = 0; i < 3; i += 1) one.ended(websocket(null));
    assert.equal(one.transport, "websocket");
    one.ended(websocket(null));
    assert.equal(one.transport, "sockjs");
  });
  test("three that die right after their 101 count as failed; a good one in between does not", () => {
    const one = ladder();
    one.ended(websocket(150));
    one.ended(websocket(150));
    one.ended(websocket(5_000));
    one.ended(websocket(150));
    one.ended(websocket(1_999));
    assert.equal(one.transport, "websocket");
    one.ended(websocket(300));
    assert.equal(one.fallback, "WebSocket breaks right after it opens");
  });
  test("one that is closed with a reason does not count", () => {
    const one = ladder();
    for (let i = 0; i < 5; i += 1) one.ended(websocket(100, false));
    assert.equal(one.transport, "websocket");
  });
  test("where SockJS fails too, both take turns", () => {
    const one = ladder();
    one.ended(websocket(null));
    one.ended(websocket(null));
    one.ended(sockjs(null));
    assert.equal(one.transport, "websocket");
    assert.equal(one.fallback, null);
    one.ended(websocket(null));
    assert.equal(one.transport, "sockjs");
  });
  test("a SockJS session that worked is tried again first", () => {
    const one = ladder();
    one.ended(websocket(null));
    one.ended(websocket(null));
    one.ended(sockjs(9_000));
    assert.equal(one.transport, "sockjs");
  });
  test("looks for WebSocket after 30 s, then less and less often", () => {
    const one = ladder();
    assert.deepEqual([1, 2, 3, 4, 5, 6].map(() => one.upgrade_ms()), [30_000, 60_000, 120_000, 240_000, 300_000, 300_000]);
  });
  test("another network starts anew", () => {
    const one = ladder();
    one.ended(websocket(null));
    one.ended(websocket(null));
    one.network_changed(false);
    assert.equal(one.transport, "websocket");
  });
  test("one transport alone never changes", () => {
    const one = new Ladder(["websocket"]);
    for (let i = 0; i < 9; i += 1) one.ended(websocket(null));
    assert.equal(one.transport, "websocket");
  });
});

describe("presence", () => {
  const a = member("a");
  const b = member("b");
  const c = member("c");
  const of = (...list: (typeof a)[]) => new Map(list.map((one) => [one.id, one]));
  const names = (changes: Change[]) => changes.map(({ type, member }) => `${type} ${member.id}`);
  test("a snapshot is compared with what was known", () => {
    const changed = { ...b, state: 1 };
    const [members, changes] = applySnapshot(of(a, b), [changed, c]);
    assert.deepEqual(names(changes), ["left a", "updated b", "joined c"]);
    assert.deepEqual([...members.keys()], ["b", "c"]);
  });
  test("what is the same is the same object, and no change; a new alias alone is no change", () => {
    const [members, changes] = applySnapshot(of(a, b), [{ ...a }, { ...b, alias: 77 }]);
    assert.deepEqual(changes, []);
    assert.equal(members.get("a"), a);
    assert.equal(members.get("b")?.alias, 77);
  });
  test("a member named twice is there once", () => {
    const [members, changes] = applySnapshot(of(), [a, { ...a, state: 2 }]);
    assert.equal(members.size, 1);
    assert.deepEqual(names(changes), ["joined a"]);
  });
  test("leaves come before joins", () => {
    const [members, changes] = applyDiff(of(a), [{ id: "a", reason: "closed" }], [{ ...a, state: 3 }]);
    assert.deepEqual(names(changes), ["left a", "joined a"]);
    assert.equal(members.size, 1);
  });
  test("an update of one unknown is a join, a join of one known an update, a leave of one unknown nothing", () => {
    const [, changes] = applyDiff(of(a), [{ id: "c", reason: "closed" }], [{ ...a, state: 4 }, b]);
    assert.deepEqual(names(changes), ["updated a", "joined b"]);
  });
  test("oldest first, and the id decides between equals", () => {
    const twin = { ...a, id: "0" };
    assert.deepEqual(inOrder([c, b, a, twin]).map(({ id }) => id), ["0", "a", "b", "c"]);
  });
});

describe("numbers and texts", () => {
  test("decimal text compares as numbers beyond 2^53", () => {
    assert.ok(isAfter("18446744073709551615", "18446744073709551614"));
    assert.ok(isAfter("10", "9"));
    assert.ok(!isAfter("9", "10"));
    assert.ok(!isAfter("7", "7"));
    assert.ok(isAfter("0", ""));
  });
  test("what is no message is none", () => {
    for (const text of ["", "{", "[]", "null", "1", '"x"', "{}", '{"type":1}']) assert.equal(parse(text), null);
    assert.ok(parse('{"type":"later"}'));
  });
  test("cursor intervals by size", () => {
    assert.deepEqual([1, 50, 51, 200, 201, 1_000, 1_001].map(interval_ms), [16, 16, 33, 33, 66, 66, 100]);
  });
  test("positions beyond a float32 are none", () => {
    const env = { now: () => 65_537.9 };
    assert.deepEqual(sample(env, 1, 2), { time_ms: 1, x: 1, y: 2 });
    for (const x of [NaN, Infinity, 1e39]) assert.equal(sample(env, x, 0), null);
  });
});

describe("cursor frames", () => {
  test("random bytes never throw, and decode only to finite positions", () => {
    const random = seeded(7);
    for (let i = 0; i < 5_000; i += 1) {
      const bytes = new Uint8Array(Math.floor(random() * 60));
      for (let j = 0; j < bytes.length; j += 1) bytes[j] = Math.floor(random() * 256);
      if (random() < 0.7 && bytes.length >= 8) {
        bytes[0] = 2;
        bytes[2] = Math.floor((bytes.length - 8) / 12);
        bytes[3] = 0;
      }
      for (const { x, y } of decodeCursors(bytes.buffer)?.records ?? []) assert.ok(Number.isFinite(x) && Number.isFinite(y));
    }
  });
  test("a record that is not finite goes alone", () => {
    const frame = Buffer.from("0200020007000000" + "01000000" + "0000807f00000000" + "02000000" + "0000803f00000040", "hex");
    assert.deepEqual(decodeCursors(Uint8Array.from(frame).buffer)?.records, [{ alias: 2, time_ms: 0, x: 1, y: 2 }]);
  });
  test("our own kind is not read", () => {
    assert.equal(decodeCursors(encodeCursor(1, []).buffer), null);
  });
});

describe("handlers", () => {
  test("one that throws is reported and harms no other; unsubscribing works inside and twice", () => {
    const errors: unknown[] = [];
    const emitter = new Emitter<{ a: number }>((error) => errors.push(error));
    const told: string[] = [];
    emitter.on("a", () => {
      throw new Error("mine");
    });
    const off = emitter.on("a", (n) => {
      told.push(`one ${n}`);
      off();
      off();
    });
    emitter.on("a", (n) => told.push(`two ${n}`));
    emitter.emit("a", 1);
    emitter.emit("a", 2);
    assert.deepEqual(told, ["one 1", "two 1", "two 2"]);
    assert.equal(errors.length, 2);
  });
});
