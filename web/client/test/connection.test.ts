import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Status } from "../src/api";
import { World, record, settle } from "./world";

/** A client with a connection. */
async function connected(world: World, options = {}) {
  const client = world.client(options);
  await settle();
  world.socket.welcome();
  world.socket.pong();
  return client;
}

const state = (status: Status) => status.state;
/** Why it is not connected. */
const reason = ({ status }: { status: Status }) => ("reason" in status ? status.reason : null);

describe("connecting", () => {
  test("offers the subprotocol, says hello and is connected at the welcome", async () => {
    const world = new World();
    const client = world.client({ token: "abc" });
    const told = record((name, fn) => client.on(name, fn), ["status"]);
    assert.equal(client.status.state, "connecting");
    assert.equal(world.socket.url, "ws://n1.test/v1");
    assert.deepEqual(world.socket.protocols, ["cursormesh.v1"]);
    world.socket.open();
    assert.deepEqual(world.socket.sent, [{ type: "hello", client: "cursormesh-js/0.1.0", protocol: 2, token: "abc" }]);
    world.socket.welcome();
    assert.deepEqual(client.status, { state: "connected", node: "n1", region: "eu", transport: "websocket", fallback: null });
    assert.deepEqual(told.map(([, status]) => state(status as Status)), ["connected"]);
  });

  test("json offers the JSON variant", () => {
    const world = new World();
    world.client({ json: true });
    assert.deepEqual(world.socket.protocols, ["cursormesh.v1.json"]);
  });

  test("an address that is none is an error at once", () => {
    const world = new World();
    assert.throws(() => world.client({ url: "ftp://x" }), TypeError);
  });

  test("a socket that cannot even be made is a failure like another", async () => {
    const world = new World();
    const client = world.client({
      transports: ["websocket"],
      environment: {
        ...world.environment,
        webSocket: () => {
          throw new Error("forbidden");
        },
      },
    });
    await world.clock.advance(0);
    assert.equal(client.status.state, "reconnecting");
    assert.match(reason(client)?.text ?? "", /forbidden/);
  });

  test("a node that accepts and says nothing is given up after 5 s", async () => {
    const world = new World();
    const client = world.client();
    world.socket.open();
    await world.clock.advance(4_999);
    assert.equal(client.status.state, "connecting");
    await world.clock.advance(1);
    assert.deepEqual(reason(client), { code: null, why: "silent", text: "no answer" });
  });
});

describe("reconnecting", () => {
  test("inside 1 s, on the next node of the list", async () => {
    const world = new World();
    const client = world.client();
    world.socket.welcome({
      nodes: [
        { node: "n1", region: "eu", url: "ws://n1.test/v1" },
        { node: "n2", region: "eu", url: "ws://n2.test/v1" },
        { node: "n3", region: "us", url: "ws://n3.test/v1" },
      ],
    });
    await world.clock.advance(3_000);
    world.randoms = [0.999];
    world.socket.end();
    assert.equal(client.status.state === "reconnecting" && client.status.attempt, 1);
    await world.clock.advance(999);
    assert.equal(world.socket.url, "ws://n2.test/v1");
    world.socket.end();
    await world.clock.advance(1_000);
    assert.equal(world.socket.url, "ws://n3.test/v1");
    world.socket.welcome({ node: "n3" });
    assert.equal(client.status.state === "connected" && client.status.node, "n3");
  });

  test("never more than one socket at a time", async () => {
    const world = new World();
    await connected(world, { transports: ["websocket"] });
    for (let i = 0; i < 20; i += 1) {
      world.socket.end();
      world.signal("visible");
      world.signal("online");
      await world.clock.advance(3_000);
    }
    assert.equal(world.sockets.length, 21);
  });

  test("a connection that flaps is backed off from", async () => {
    const world = new World();
    const client = await connected(world, { transports: ["websocket"] });
    const waits: number[] = [];
    for (let i = 0; i < 6; i += 1) {
      world.randoms = [0.999];
      world.socket.end();
      const { status } = client;
      const retry_ms = "retry_ms" in status ? status.retry_ms : 0;
      waits.push(Math.round(retry_ms / 1000));
      await world.clock.advance(retry_ms);
      world.socket.welcome();
    }
    assert.deepEqual(waits, [1, 2, 4, 8, 16, 30]);
  });

  test("1012 with a wish: after that time, elsewhere", async () => {
    const world = new World();
    await connected(world, { urls: ["ws://a.test/v1", "ws://b.test/v1"] });
    world.socket.end(1012, '{"retry_ms":500}');
    world.signal("visible");
    await world.clock.advance(499);
    assert.equal(world.sockets.length, 1);
    await world.clock.advance(1);
    assert.equal(world.socket.url, "ws://b.test/v1");
  });

  test("1001: at once, same node", async () => {
    const world = new World();
    await connected(world, { urls: ["ws://a.test/v1", "ws://b.test/v1"] });
    world.socket.end(1001, "no sign of life");
    await world.clock.advance(0);
    assert.equal(world.sockets.length, 2);
    assert.equal(world.socket.url, "ws://a.test/v1");
  });

  for (const code of [1000, 4400, 4403]) {
    test(`${code}: not again, until asked to`, async () => {
      const world = new World();
      const client = await connected(world);
      world.socket.end(code, "why");
      assert.deepEqual(client.status, { state: "closed", reason: { code, why: "closed", text: "why" }, transport: "websocket", fallback: null });
      await world.clock.advance(600_000);
      assert.equal(world.sockets.length, 1);
      assert.equal(world.clock.pending, 0);
      client.reconnect();
      await settle();
      assert.equal(world.sockets.length, 2);
    });
  }

  test("1002: once a minute", async () => {
    const world = new World();
    await connected(world);
    world.randoms = [0];
    world.socket.end(1002);
    world.signal("visible");
    await world.clock.advance(59_999);
    assert.equal(world.sockets.length, 1);
    await world.clock.advance(1);
    assert.equal(world.sockets.length, 2);
  });

  test("close() ends everything and leaves no timer", async () => {
    const world = new World();
    const client = await connected(world);
    client.close();
    assert.deepEqual(world.socket.closed, { code: 1000, reason: "done" });
    assert.equal(world.clock.pending, 0);
    client.reconnect();
    world.signal("online");
    await world.clock.advance(60_000);
    assert.equal(world.sockets.length, 1);
  });
});

describe("tokens", () => {
  test("a function is asked before every connection", async () => {
    const world = new World();
    let n = 0;
    const client = world.client({ token: async () => `t${(n += 1)}` });
    await settle();
    world.socket.welcome();
    world.socket.end();
    await world.clock.advance(1_000);
    world.socket.open();
    assert.equal(world.socket.last("hello").token, "t2");
    assert.equal(client.status.state, "reconnecting");
  });

  test("4401 asks for a fresh one at once; a plain value has none", async () => {
    const world = new World();
    let n = 0;
    world.client({ token: () => `t${(n += 1)}` });
    await settle();
    world.socket.open();
    world.socket.end(4401, "expired");
    await world.clock.advance(0);
    world.socket.open();
    assert.equal(world.socket.last("hello").token, "t2");

    const other = new World();
    const client = other.client({ token: "t" });
    other.socket.open();
    other.socket.end(4401, "expired");
    assert.equal(client.status.state, "closed");
  });

  test("a function that throws, rejects or hangs is tried again with back-off, and does not change transport", async () => {
    const world = new World();
    const answers = [
      () => {
        throw new Error("a");
      },
      () => Promise.reject(new Error("b")),
      () => new Promise<string>(() => {}),
      () => "good",
    ];
    const client = world.client({ token: () => (answers.shift() ?? (() => "good"))() });
    const reasons: string[] = [];
    client.on("status", (status) => {
      if (status.state === "reconnecting" && status.retry_ms > 0) reasons.push(`${status.reason.why}: ${status.reason.text}`);
    });
    await world.clock.advance(30_000);
    assert.deepEqual(reasons.slice(0, 3), ["token: a", "token: b", "token: the token function does not answer"]);
    world.socket.open();
    assert.equal(world.socket.last("hello").token, "good");
    assert.equal(client.status.transport, "websocket");
  });
});

describe("signs of life", () => {
  test("pings when silent, and gives a silent socket up after 5 s", async () => {
    const world = new World();
    const client = await connected(world);
    const first = world.socket;
    await world.clock.advance(10_000);
    assert.equal(first.all("ping").length, 2);
    first.pong();
    await world.clock.advance(10_000);
    assert.equal(first.all("ping").length, 3);
    await world.clock.advance(5_000);
    assert.deepEqual(first.closed, { code: 4000, reason: "no answer" });
    assert.equal(reason(client)?.why, "silent");
  });

  test("anything that arrives is a sign of life", async () => {
    const world = new World();
    const client = await connected(world);
    for (let i = 0; i < 15; i += 1) {
      await world.clock.advance(4_000);
      world.socket.say({ type: "pressure", room: "x", interval_ms: 16 });
    }
    assert.equal(client.status.state, "connected");
    assert.equal(world.sockets.length, 1);
  });

  test("latency is the smoothed round trip", async () => {
    const world = new World();
    const client = world.client();
    world.socket.welcome();
    assert.equal(client.latency(), null);
    await world.clock.advance(40);
    world.socket.pong();
    assert.equal(client.latency(), 40);
    while (world.socket.all("ping").length < 2) await world.clock.advance(100);
    await world.clock.advance(100);
    world.socket.pong();
    assert.ok((client.latency() ?? 0) > 40);
  });

  test("a tab that returns to a dead socket is back within 1 s", async () => {
    const world = new World();
    await connected(world);
    const dead = world.socket;
    world.signal("hidden");
    await world.clock.sleep(60_000);
    world.signal("visible");
    world.randoms = [0.99];
    await world.clock.advance(1_000);
    assert.equal(dead.closed?.code, 4000);
    assert.equal(world.sockets.length, 2, "without a wait: tabs are not looked at all at once");
  });

  test("a laptop that wakes notices by the clock alone", async () => {
    const world = new World();
    await connected(world);
    await world.clock.sleep(3_600_000);
    world.randoms = [0.99];
    await world.clock.advance(1_000);
    assert.equal(world.sockets.length, 2);
  });

  test("one that returns to a living socket keeps it", async () => {
    const world = new World();
    const client = await connected(world);
    world.signal("hidden");
    await world.clock.sleep(60_000);
    world.signal("visible");
    await world.clock.advance(300);
    world.socket.pong();
    await world.clock.advance(4_000);
    assert.equal(client.status.state, "connected");
    assert.equal(world.sockets.length, 1);
  });

  test("one that returns while it waits tries at once", async () => {
    const world = new World();
    await connected(world, { transports: ["websocket"] });
    for (let i = 0; i < 6; i += 1) {
      world.randoms = [0.99];
      world.socket.end();
      if (i < 5) await world.clock.advance(30_000);
    }
    const before = world.sockets.length;
    world.signal("visible");
    await settle();
    assert.equal(world.sockets.length, before + 1);
  });

  test("a try from the old network is not waited for", async () => {
    const world = new World();
    world.client();
    await world.clock.advance(1_000);
    world.signal("online");
    await settle();
    assert.equal(world.sockets.length, 2);
    assert.equal(world.sockets[0]?.closed?.code, 4000);
  });
});

describe("lost", () => {
  test("told after 5 s without a connection, and when it is back", async () => {
    const world = new World();
    world.alive = true;
    const client = await connected(world, { transports: ["websocket"] });
    const told = record((name, fn) => client.on(name, fn), ["lost", "restored"]);
    world.socket.end();
    await world.clock.advance(2_000);
    world.socket.welcome();
    await world.clock.advance(20_000);
    assert.equal(told.length, 0);
    world.socket.end();
    await world.clock.advance(4_999);
    assert.equal(told.length, 0);
    await world.clock.advance(1);
    assert.deepEqual(told.map(([name]) => name), ["lost"]);
    await world.clock.advance(2_000);
    world.socket.welcome();
    assert.deepEqual(told.map(([name]) => name), ["lost", "restored"]);
  });

  test("told also where it does not try again, but not of what the page closed itself", async () => {
    const world = new World();
    const client = await connected(world);
    const told = record((name, fn) => client.on(name, fn), ["lost", "restored"]);
    world.socket.end(4403, "not allowed");
    await world.clock.advance(5_000);
    assert.deepEqual(told.map(([name]) => name), ["lost"]);
    client.reconnect();
    await settle();
    world.socket.welcome();
    assert.deepEqual(told.map(([name]) => name), ["lost", "restored"]);
    client.close();
    await world.clock.advance(10_000);
    assert.equal(told.length, 2);
  });
});

describe("SockJS", () => {
  /** SockJS sockets that behave like the others. */
  function withSockjs(world: World) {
    const opened: string[] = [];
    world.sockjs = (env, url, protocol, events) => {
      opened.push(`${url} ${protocol}`);
      const socket = env.webSocket(`sockjs ${url}`, [protocol]);
      socket.onopen = () => events.open();
      socket.onmessage = ({ data }) => events.text(String(data));
      socket.onclose = ({ code, reason }) => events.closed(code, reason);
      return { transport: "sockjs", buffered: 0, send: (data) => socket.send(data), close: (code, reason) => socket.close(code, reason) };
    };
    return opened;
  }

  test("when WebSocket does not open; the status says why; and back beside it, without a gap", async () => {
    const world = new World();
    const opened = withSockjs(world);
    world.alive = true;
    const client = world.client();
    const room = client.room("lobby");
    world.socket.end();
    await world.clock.advance(1_000);
    assert.deepEqual(opened, []);
    world.socket.end();
    await world.clock.advance(2_000);
    assert.deepEqual(opened, ["ws://n1.test/v1 cursormesh.v1.json"]);
    const old = world.socket;
    old.welcome();
    old.join();
    assert.equal(client.status.transport, "sockjs");
    assert.equal(client.status.fallback, "WebSocket does not open");
    assert.equal(room.joined, true);

    // The look for WebSocket: the first fails, the second lives.
    const states: string[] = [];
    client.on("status", ({ state }) => states.push(state));
    await world.clock.advance(30_000);
    assert.equal(world.socket.url, "ws://n1.test/v1");
    world.socket.end();
    await world.clock.advance(60_000);
    const next = world.socket;
    assert.notEqual(next, old);
    next.welcome({ node: "n2" });
    await world.clock.advance(2_000);
    assert.equal(next.last("join").resume?.token, "T1");
    next.join("lobby", [], { outcome: "recovered" });
    old.say({ type: "left", room: "lobby", reason: "superseded" });
    old.end(4409);
    assert.equal(client.status.transport, "websocket");
    assert.equal(client.status.fallback, null);
    assert.equal(room.joined, true);
    assert.deepEqual(states, ["connected"]);
    await world.clock.advance(5_000);
    assert.equal(old.closed?.code, 4000);
    assert.equal(client.status.state, "connected");
  });

  test("when three WebSockets are cut right after their 101", async () => {
    const world = new World();
    const opened = withSockjs(world);
    const client = world.client();
    for (let i = 0; i < 3; i += 1) {
      assert.deepEqual(opened, []);
      world.socket.open();
      await world.clock.advance(200);
      world.randoms = [0];
      world.socket.end();
      await world.clock.advance(0);
    }
    assert.equal(opened.length, 1);
    assert.equal(client.status.fallback, "WebSocket breaks right after it opens");
  });

  test("is looked past soon after the network changed", async () => {
    const world = new World();
    withSockjs(world);
    world.client();
    for (const wait of [1_000, 2_000]) {
      world.socket.end();
      await world.clock.advance(wait);
    }
    world.socket.welcome();
    world.socket.pong();
    world.signal("online");
    const before = world.sockets.length;
    await world.clock.advance(1_000);
    assert.equal(world.sockets.length, before + 1);
    assert.equal(world.socket.url, "ws://n1.test/v1");
  });

  test("every node is tried with both, whatever their number", async () => {
    for (const count of [1, 2, 3, 4]) {
      for (let living = 0; living < count; living += 1) {
        const world = new World();
        const urls = Array.from({ length: count }, (_, i) => `http://n${i}.test`);
        const client = world.client({ urls });
        const back_at = world.clock.now + 20_000;
        const end = back_at + 120_000;
        // One node comes back after a while; SockJS goes nowhere.
        for (let tried = 0; client.status.state !== "connected" && world.clock.now < end; ) {
          await world.clock.advance(100);
          for (const socket of world.sockets.slice(tried)) {
            if (world.clock.now >= back_at && socket.url === `ws://n${living}.test/v1`) socket.welcome();
            else socket.end();
          }
          tried = world.sockets.length;
        }
        assert.equal(client.status.state, "connected", `node ${living} of ${count}`);
        client.close();
      }
    }
  });

  test("that cannot be fetched hands back to WebSocket", async () => {
    const world = new World();
    const client = world.client();
    for (const wait of [1_000, 2_000]) {
      world.socket.end();
      await world.clock.advance(wait);
    }
    await world.clock.advance(4_000);
    assert.equal(client.status.transport, "websocket");
    assert.ok(world.sockets.length >= 3);
  });
});
