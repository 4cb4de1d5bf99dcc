// Pages that lose their connection, in every way there is, and the pages that watch: who is back after
// how long, as whom, with what; and what the others saw of it. The table of docs/browser-protocol.md is
// what these tests say.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { browser } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { agree, application, entry, idOf, meet, realBrowser, seenOf, speak, told, visit } from "./harness/visit.mjs";

/** Nodes that notice a silent connection within 3 s instead of half a minute. */
const WATCHFUL = { ping_interval_ms: 1000, ping_timeout_ms: 2000 };
/** How long a member whose connection broke is waited for. */
const GRACE_MS = 10_000;
/** Sleeping longer than a token is good for takes two minutes: only where somebody asked for long tests. */
const LONG = Boolean(process.env.CURSORMESH_LONG);

/** What became of `page` since `since`: recovered or rebuilt. */
const outcome = (page, since, within_ms) => entry(page, ["recovered", "rebuilt"], { since, within_ms });

/** Checks that the others saw `id` away and back, once, or nothing at all; gives what they saw. */
async function sawNoLeave(pages, id, since) {
  const stories = [];
  for (const page of pages) {
    await eventually("they see it there", () => page.evaluate((id) => visit.room.others.some((member) => member.id === id && !member.away), id));
    const seen = await seenOf(page, id, since);
    assert.ok(seen.every((what) => what === "away" || what === "updated" || what.startsWith("back on")), `seen: ${seen}`);
    stories.push(seen.filter((what) => what !== "updated").join(", ") || "its node change");
  }
  return [...new Set(stories)].join(" / ");
}

/** Checks that each page shows the cursor of `page` where that page put it last. */
async function showsCursor(pages, page) {
  const [id, x, y] = await page.evaluate(() => {
    visit.room.cursors.set(1234.5, 77);
    return [visit.id, 1234.5, 77];
  });
  for (const other of pages) {
    await eventually("the cursor is where it was put", () => other.evaluate(([id, x, y]) =>
      visit.room.cursors.all.some((cursor) => cursor.member.id === id && cursor.x === x && cursor.y === y), [id, x, y]));
  }
}

test("a node is killed while a page moves: it is the same member on another node, and nothing is missed", { timeout: 120_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const context = await (await browser(t)).newContext();
    const ada = await visit(context, app, cluster, "n1", "Ada");
    const bo = await visit(context, app, cluster, "n2", "Bo", { file: "cursormesh.mjs" });
    const cy = await visit(context, app, cluster, "n3", "Cy");
    const [id] = await speak([ada, bo, cy]);
    await ada.evaluate(() => {
      visit.room.me.set({ step: 1, tool: "pen" });
      visit.move(5);
    });
    await eventually("the others see her move", () => bo.evaluate((id) => visit.cursors[id]?.moves > 20, id));

    const killed = Date.now();
    await cluster.kill("n1");
    const back = await outcome(ada, killed);
    assert.equal(back.what, "recovered");
    const away_ms = back.at - killed;
    assert.ok(away_ms < 3000, `back after ${away_ms} ms`);
    assert.equal(await idOf(ada), id);
    assert.equal(await ada.evaluate(() => visit.room.joined), true);
    // Longer than the others would need to forget somebody whose node is gone.
    await sleep(5000);
    const seen = await sawNoLeave([bo, cy], id, killed);
    for (const page of [bo, cy]) {
      const state = await page.evaluate((id) => visit.room.others.find((member) => member.id === id).state, id);
      assert.deepEqual(state, { step: 1, tool: "pen" });
    }
    await ada.evaluate(() => visit.rest());
    await showsCursor([bo, cy], ada);
    const { heard, gone } = await agree([ada, bo, cy], { broken: [ada] });
    assert.ok((await told(ada, { since: killed })).every(({ what }) => what !== "joined" && what !== "left"));
    t.diagnostic(`node killed: recovered after ${away_ms} ms; others saw ${seen}; ${heard} events heard, ${gone} went with the connection`);
    for (const page of [ada, bo, cy]) assert.deepEqual(page.errors, []);
  });
});

test("a node is drained: its page moves on at once, and nobody sees it leave", { timeout: 120_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const context = await (await browser(t)).newContext();
    const ada = await visit(context, app, cluster, "n1", "Ada");
    const bo = await visit(context, app, cluster, "n2", "Bo");
    const [id] = await speak([ada, bo]);
    const stopped = Date.now();
    assert.equal(await cluster.terminate("n1"), 0);
    const back = await outcome(ada, stopped);
    assert.equal(back.what, "recovered");
    assert.equal((await entry(ada, "reconnecting", { since: stopped })).code, 1012);
    assert.equal(await idOf(ada), id);
    const node = await ada.evaluate(() => visit.client.status.node);
    assert.notEqual(node, "n1");
    await sleep(5000);
    const seen = await sawNoLeave([bo], id, stopped);
    const { heard, gone } = await agree([ada, bo], { broken: [ada] });
    t.diagnostic(`node drained: recovered after ${back.at - stopped} ms; others saw ${seen}; ${heard} events heard, ${gone} went with the connection`);
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  });
});

test("every node restarts, one after the other, and nobody sees anybody leave", { timeout: 180_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const context = await (await browser(t)).newContext();
    const pages = [];
    for (const node of cluster.names) pages.push(await visit(context, app, cluster, node, `visitor of ${node}`));
    const ids = await speak(pages);
    const began = Date.now();
    for (const node of cluster.names) {
      assert.equal(await cluster.terminate(node), 0);
      await eventually("everyone is served", async () => (await Promise.all(pages.map((page) => page.evaluate(() => visit.room.joined)))).every(Boolean));
      await cluster.start(node);
      await cluster.whole();
    }
    for (const [index, page] of pages.entries()) {
      const entries = await told(page, { since: began });
      assert.deepEqual(entries.filter(({ what }) => ["left", "joined", "lost"].includes(what)), []);
      // Where all of them were on one node and that one stops, nobody is left who knows what was said.
      const rebuilt = entries.filter(({ what }) => what === "rebuilt").map(({ reason }) => reason);
      assert.ok(rebuilt.every((reason) => reason === "events_lost"), rebuilt.join());
      assert.equal(await idOf(page), ids[index]);
    }
    const { heard, gone } = await agree(pages, { broken: pages });
    t.diagnostic(`rolling restart: nobody saw a leave or a join; ${heard} events heard, ${gone} went with a connection`);
  });
});

test("a laptop sleeps: for a moment it is the same member, for longer it is told what it lost", { timeout: 240_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const bo = await visit(await (await browser(t)).newContext(), app, cluster, "n2", "Bo");
    const laptop = await realBrowser(t);
    const ada = await visit(laptop.context, app, cluster, "n1", "Ada");
    const [id] = await speak([ada, bo]);

    const slept = Date.now();
    laptop.sleep();
    await eventually("the others see her away", async () => (await seenOf(bo, id, slept)).includes("away"), { within_ms: 15_000 });
    await sleep(2000);
    const woke = Date.now();
    laptop.wake();
    const back = await outcome(ada, slept);
    assert.equal(back.what, "recovered");
    assert.equal(await idOf(ada), id);
    const seen = await sawNoLeave([bo], id, slept);
    const { heard, gone } = await agree([ada, bo], { broken: [ada] });
    t.diagnostic(`sleep of ${woke - slept} ms: recovered ${back.at - woke} ms after waking; others saw ${seen}; ${heard} events heard, ${gone} went with the connection`);

    const again = Date.now();
    laptop.sleep();
    const left = await eventually("the others see her leave", async () =>
      (await told(bo, { since: again, id })).find(({ what }) => what === "left"), { within_ms: GRACE_MS + 15_000 });
    assert.equal(left.reason, "timed_out");
    const rose = Date.now();
    laptop.wake();
    const rebuilt = await outcome(ada, again);
    assert.deepEqual([rebuilt.what, rebuilt.reason], ["rebuilt", "too_late"]);
    assert.deepEqual(await meet(ada, bo), [id, await idOf(bo)]);
    await showsCursor([bo], ada);
    t.diagnostic(`sleep of ${rose - again} ms: rebuilt (${rebuilt.reason}) ${rebuilt.at - rose} ms after waking; others saw ${(await seenOf(bo, id, again)).join(", ")}`);

    if (LONG) {
      const at = Date.now();
      laptop.sleep();
      await sleep(125_000);
      const morning = Date.now();
      laptop.wake();
      const anew = await outcome(ada, at);
      assert.deepEqual([anew.what, anew.reason], ["rebuilt", "token_expired"]);
      const ids = await meet(ada, bo);
      assert.notEqual(ids[0], id);
      t.diagnostic(`sleep of ${morning - at} ms: rebuilt (${anew.reason}) ${anew.at - morning} ms after waking; others saw ${(await seenOf(bo, id, at)).join(", ")}, and somebody new`);
    }
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  }, { web: WATCHFUL });
});

test("a page is offline and back: on its old connection, on a new one, or after its member left", { timeout: 180_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const context = await chromium.newContext();
    const ada = await visit(context, app, cluster, "n1", "Ada", { port: cluster.link("n1").port });
    const bo = await visit(await chromium.newContext(), app, cluster, "n2", "Bo");
    const [id] = await speak([ada, bo]);
    const offline = async () => {
      for (const node of cluster.names) cluster.link(node).pull();
      await context.setOffline(true);
    };
    const online = async (how) => {
      for (const node of cluster.names) cluster.link(node).plug(how);
      await context.setOffline(false);
    };

    // A tunnel: what was on its way arrives late.
    const dark = Date.now();
    await offline();
    await sleep(1200);
    const light = Date.now();
    await online({});
    await eventually("she hears what is said now", async () => {
      const now = await bo.evaluate(() => visit.said);
      return ada.evaluate(([sender, now]) => visit.heard[sender].at(-1) >= now, [await idOf(bo), now]);
    });
    const tunnel_ms = Date.now() - light;
    const kept = (await told(ada, { since: dark })).every(({ what }) => what !== "reconnecting");
    await sawNoLeave([bo], id, dark);
    t.diagnostic(`offline for ${light - dark} ms, the connection survives: ${kept ? "kept" : "replaced"}, hears again within ${tunnel_ms} ms`);

    // Another network: the old connection is dead and nobody says so.
    const gone = Date.now();
    await offline();
    await eventually("the others see her away", async () => (await seenOf(bo, id, gone)).includes("away"), { within_ms: 15_000 });
    const there = Date.now();
    await online({ dead: true });
    const back = await outcome(ada, gone);
    assert.equal(back.what, "recovered");
    assert.ok(back.at - there < 2000, `back after ${back.at - there} ms`);
    assert.equal(await idOf(ada), id);
    const seen = await sawNoLeave([bo], id, gone);
    const { heard, gone: lost } = await agree([ada, bo], { broken: [ada] });
    t.diagnostic(`offline for ${there - gone} ms: recovered ${back.at - there} ms after; others saw ${seen}; ${heard} events heard, ${lost} went with the connection`);

    // Longer than anybody waits.
    const far = Date.now();
    await offline();
    await eventually("the others see her leave", async () => (await seenOf(bo, id, far)).includes("left (timed_out)"), { within_ms: GRACE_MS + 15_000 });
    const home = Date.now();
    await online({ dead: true });
    const rebuilt = await outcome(ada, far);
    assert.deepEqual([rebuilt.what, rebuilt.reason], ["rebuilt", "too_late"]);
    assert.deepEqual(await meet(ada, bo), [id, await idOf(bo)]);
    const diary = await told(ada, { since: far });
    const [lostAt, restored] = ["lost", "restored"].map((what) => diary.find((entry) => entry.what === what)?.at);
    assert.ok(lostAt && restored > lostAt, "she was told that she is lost, and that she is back");
    t.diagnostic(`offline for ${home - far} ms: rebuilt (${rebuilt.reason}) ${rebuilt.at - home} ms after; told "lost" after ${lostAt - far} ms; others saw ${(await seenOf(bo, id, far)).join(", ")}`);
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  }, { links: true, web: WATCHFUL });
});

test("a connection is cut without a word, at both ends or at the browser's alone", { timeout: 120_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await visit(await chromium.newContext(), app, cluster, "n1", "Ada", { port: cluster.link("n1").port });
    const bo = await visit(await chromium.newContext(), app, cluster, "n2", "Bo");
    const [id] = await speak([ada, bo]);
    for (const how of [{}, { far: false }]) {
      const cut = Date.now();
      for (const node of cluster.names) cluster.link(node).cut(how);
      const back = await outcome(ada, cut);
      assert.equal(back.what, "recovered");
      assert.equal(await idOf(ada), id);
      const seen = await sawNoLeave([bo], id, cut);
      // The node notices the end of the old connection only now, where it does at all.
      await sleep(3500);
      await sawNoLeave([bo], id, cut);
      t.diagnostic(`cut ${how.far === false ? "at the browser's end" : "at both ends"}: recovered after ${back.at - cut} ms; others saw ${seen}`);
    }
    const { heard, gone } = await agree([ada, bo], { broken: [ada] });
    t.diagnostic(`${heard} events heard, ${gone} went with a connection`);
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  }, { links: true, web: WATCHFUL });
});

test("a token that expired is replaced before the page is back, as the same member", { timeout: 120_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const context = await chromium.newContext();
    // A gate that asks for a token, as nodes will: 4401 is what it says to one that has expired.
    let good = "first";
    const shown = [];
    await context.routeWebSocket(/\/v1$/, (socket) => {
      const node = socket.connectToServer();
      socket.onMessage((message) => {
        const hello = typeof message === "string" && message.startsWith('{"type":"hello"') ? JSON.parse(message) : null;
        if (hello) shown.push(hello.token);
        if (!hello || hello.token === good) return node.send(message);
        socket.close({ code: 4401, reason: "the token has expired" });
        node.close({ code: 4000, reason: "the token has expired" });
      });
    });
    const ada = await visit(context, app, cluster, "n1", "Ada", { tokens: ["first", "first", "second", "third"] });
    const bo = await visit(await chromium.newContext(), app, cluster, "n2", "Bo");
    const [id] = await meet(ada, bo);

    good = "second";
    const killed = Date.now();
    await cluster.kill("n1");
    const back = await outcome(ada, killed);
    assert.equal(back.what, "recovered");
    assert.equal(await idOf(ada), id);
    assert.deepEqual(await ada.evaluate(() => visit.asked), ["first", "first", "second"], "asked before every connection");
    assert.deepEqual(shown, ["first", "first", "second"]);
    const seen = await sawNoLeave([bo], id, killed);
    t.diagnostic(`expired token: refused with 4401, recovered with a fresh one ${back.at - killed} ms after its node was killed; others saw ${seen}`);
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  });
});
