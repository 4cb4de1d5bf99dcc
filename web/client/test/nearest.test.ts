import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { Status } from "../src/api";
import { lookAround, type Found } from "../src/nearest";
import { World, settle } from "./world";

interface Listed {
  node: string;
  region: string;
  url: string;
}

const listed = (node: string, region: string): Listed => ({ node, region, url: `ws://${node}.test/v1` });

/** A world in which each node answers after the milliseconds of `far`, and never where it is not in there. */
function worldOf(nodes: Listed[], far: Record<string, number>) {
  const world = new World();
  const asked: string[] = [];
  world.environment.fetch = (url, { signal }) =>
    new Promise((resolve, reject) => {
      asked.push(url);
      signal?.addEventListener("abort", () => reject(new Error("aborted")));
      const delay_ms = far[new URL(url).host.split(".")[0] ?? ""];
      if (delay_ms === undefined) return;
      const text = JSON.stringify({ node: "n1", nodes });
      world.clock.timer(() => resolve({ ok: true, status: 200, text: () => Promise.resolve(text) } as Response), delay_ms);
    });
  const look = async (): Promise<Found> => {
    let found: Found | null = null;
    let failed: unknown = null;
    lookAround(world.environment, "ws://n1.test/v1", "n1").then((it) => (found = it), (error) => (failed = error));
    for (let i = 0; i < 100_000 && !found && !failed; i += 1) await world.clock.advance(1);
    if (failed) throw failed;
    assert.ok(found, "the look does not end");
    return found;
  };
  return { world, look, asked };
}

const names = (found: Found) => found.order.map((url) => new URL(url).host.split(".")[0]);

describe("looking around", () => {
  test("regions in the order of what this browser measures, nodes of one in the node's order", async () => {
    const nodes = [listed("n1", "eu"), listed("n2", "eu"), listed("n3", "us"), listed("n4", "ap"), listed("n5", "ap")];
    const { look } = worldOf(nodes, { n1: 200, n3: 300, n4: 20 });
    const found = await look();
    assert.deepEqual(names(found), ["n4", "n5", "n2", "n3"]);
    assert.equal(found.better, true);
  });

  test("a move needs a clear margin: more than 50 ms, and more than twice", async () => {
    const nodes = [listed("n1", "eu"), listed("n2", "us")];
    for (const [here, there, better] of [[200, 99, true], [200, 100, false], [60, 10, false], [61, 10, true], [50, 300, false]] as const) {
      const { look } = worldOf(nodes, { n1: here, n2: there });
      assert.equal((await look()).better, better, `${here} ms here, ${there} ms there`);
    }
  });

  test("a node that was slow for a moment is not left", async () => {
    const far: Record<string, number> = { n1: 300, n2: 90 };
    const { look, world, asked } = worldOf([listed("n1", "eu"), listed("n2", "us")], far);
    world.clock.timer(() => (far.n1 = 10), 4_000);
    assert.equal((await look()).better, false);
    assert.equal(asked.length, 2 * 9);
  });

  test("one node of each of four other regions is asked, and in one region nobody", async () => {
    const regions = ["eu", "us", "ap", "sa", "af", "oc", "me"];
    const nodes = regions.flatMap((region, i) => [listed(`n${2 * i + 1}`, region), listed(`n${2 * i + 2}`, region)]);
    const { look, asked } = worldOf(nodes, Object.fromEntries(nodes.map(({ node }) => [node, 30])));
    assert.equal((await look()).order.length, nodes.length - 1);
    assert.deepEqual([...new Set(asked)], ["n1", "n3", "n5", "n7", "n9"].map((node) => `http://${node}.test/v1/nodes`));
    const alone = worldOf([listed("n1", "eu"), listed("n2", "eu")], { n1: 30 });
    assert.deepEqual(names(await alone.look()), ["n2"]);
    assert.equal(alone.asked.length, 1);
  });

  test("a node that does not answer is the last, and none is asked for ever", async () => {
    const nodes = [listed("n1", "eu"), listed("n2", "us"), listed("n3", "ap")];
    const { look, world } = worldOf(nodes, { n1: 300, n3: 250 });
    const began = world.clock.now;
    assert.deepEqual(names(await look()), ["n3", "n2"]);
    assert.ok(world.clock.now - began < 10_000);
    assert.equal(world.clock.pending, 0);
    await assert.rejects(worldOf(nodes, {}).look());
  });

  test("addresses that are none are left out", async () => {
    const nodes = [listed("n1", "eu"), { node: "n2", region: "us", url: "javascript:alert(1)" }, { ...listed("n3", "us"), url: "https://n3.test" }];
    const { look, asked } = worldOf(nodes, { n1: 10, n3: 10 });
    assert.deepEqual((await look()).order, ["wss://n3.test/v1"]);
    assert.ok(asked.includes("https://n3.test/v1/nodes"));
  });
});

describe("the nearest node", () => {
  /** A client on n1 that is told of n2 and n3. */
  function visitor(found: Found, options = {}) {
    const world = new World();
    const looked: string[] = [];
    world.alive = true;
    world.nearest = async (_env, url, node) => {
      looked.push(`${node} at ${url}`);
      return found;
    };
    const client = world.client(options);
    const states: Status["state"][] = [];
    client.on("status", ({ state }) => states.push(state));
    const room = client.room("lobby");
    world.socket.welcome({ nodes: [listed("n1", "eu"), listed("n2", "eu"), listed("n3", "us")] });
    world.socket.join();
    return { world, client, room, states, looked };
  }

  const found = (better: boolean): Found => ({ order: ["ws://n3.test/v1", "ws://n2.test/v1"], better });

  test("is moved to beside the old one, as the same member", async () => {
    const { world, client, room, states } = visitor(found(true));
    const old = world.socket;
    await world.clock.advance(8_000);
    const next = world.socket;
    assert.equal(next.url, "ws://n3.test/v1");
    next.welcome({ node: "n3", region: "us", nodes: [listed("n3", "us"), listed("n1", "eu")] });
    await world.clock.advance(2_000);
    assert.equal(next.last("join").resume?.token, "T1");
    assert.deepEqual([old.closed], [null]);
    next.join("lobby", [], { outcome: "recovered" });
    assert.equal(room.joined, true);
    assert.deepEqual(states, ["connected", "connected"]);
    assert.equal(client.status.state === "connected" && client.status.node, "n3");
    await world.clock.advance(5_000);
    assert.equal(old.closed?.code, 4000);
    assert.deepEqual(old.all("leave"), []);
    // It stays: what breaks there comes back there first.
    world.socket.end(1001);
    await world.clock.advance(0);
    assert.equal(world.socket.url, "ws://n3.test/v1");
  });

  test("is where it goes when its node is lost, though not before", async () => {
    const { world, looked } = visitor(found(false));
    await world.clock.advance(20_000);
    assert.deepEqual(looked, ["n1 at ws://n1.test/v1"]);
    assert.equal(world.sockets.length, 1);
    world.socket.end();
    await world.clock.advance(1_000);
    assert.equal(world.socket.url, "ws://n3.test/v1");
    world.socket.end();
    await world.clock.advance(2_000);
    assert.equal(world.socket.url, "ws://n2.test/v1");
  });

  test("that cannot be reached is not moved to", async () => {
    const { world, client } = visitor(found(true));
    await world.clock.advance(8_000);
    world.socket.end();
    await world.clock.advance(60_000);
    assert.equal(world.sockets.length, 2);
    assert.equal(client.status.state === "connected" && client.status.node, "n1");
    client.close();
    await settle();
    assert.equal(world.clock.pending, 0);
  });

  test("is nobody's business where the page says so", async () => {
    const { world, looked } = visitor(found(true), { nearest: false });
    await world.clock.advance(60_000);
    assert.deepEqual([looked, world.sockets.length], [[], 1]);
  });
});
