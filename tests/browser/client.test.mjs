// The client as nodes serve it, in pages on three nodes: rooms, tabs, and the pages that speak the raw
// protocol.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, cursorAt, cursors, openTutorial } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { agree, application, enter, entry, idOf, meet, realBrowser, seenOf, speak, told, visit } from "./harness/visit.mjs";

/** Where `page` shows the cursor of a member. */
const cursorOf = (page, id) => page.evaluate((id) => {
  const cursor = visit.room.cursors.all.find(({ member }) => member.id === id);
  return cursor ? [cursor.x, cursor.y] : null;
}, id);

test("three pages on three nodes see each other, cursors, states, and every event once and in order", { timeout: 90_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const context = await (await browser(t)).newContext();
    const ada = await visit(context, app, cluster, "n1", "Ada");
    const bo = await visit(context, app, cluster, "n2", "Bo", { file: "cursormesh.mjs" });
    const cy = await visit(context, app, cluster, "n3", "Cy", { connect: { json: true } });
    const pages = [ada, bo, cy];
    const ids = await speak(pages);

    for (const [index, page] of pages.entries()) {
      const [x, y] = [100.5 + index, -20.25 * index];
      await page.evaluate(([x, y]) => {
        for (let step = 0; step < 50; step += 1) visit.room.cursors.set(step, step);
        visit.room.cursors.set(x, y);
        visit.room.me.set({ step: 1, tool: "pen" });
        visit.room.me.set({ step: x });
      }, [x, y]);
      for (const other of pages) {
        if (other === page) continue;
        await eventually("the last position is there", async () => {
          assert.deepEqual(await cursorOf(other, ids[index]), [x, y]);
          return true;
        });
        await eventually("the state is there", async () => {
          const shown = await other.evaluate((id) => visit.room.others.find((member) => member.id === id).state, ids[index]);
          assert.deepEqual(shown, { step: x, tool: "pen" });
          return true;
        });
      }
    }
    const moves = await bo.evaluate((id) => visit.cursors[id], ids[0]);
    assert.equal(moves.name, "Ada", "a cursor comes with its member");
    assert.ok(moves.moves <= 2, "of positions within one animation frame only the newest goes");

    const order = await Promise.all(pages.map((page) => page.evaluate(() => visit.room.others.map(({ user }) => user.name))));
    assert.deepEqual(order, [["Bo", "Cy"], ["Ada", "Cy"], ["Ada", "Bo"]], "the oldest first, the same everywhere");
    const colors = await Promise.all(pages.map((page) => page.evaluate(() =>
      [visit.room.me.member, ...visit.room.others].map(({ id, user }) => `${id} ${user.color}`).sort())));
    assert.deepEqual(colors[1], colors[0]);
    assert.deepEqual(colors[2], colors[0]);
    for (const page of pages) assert.ok(await page.evaluate(() => visit.room.latency()) < 1000);

    const { heard } = await agree(pages);
    t.diagnostic(`${heard} events heard, each once and in order`);
    await cy.evaluate(() => visit.room.leave());
    for (const page of [ada, bo]) {
      const { reason } = await entry(page, "left");
      assert.equal(reason, "closed");
      assert.deepEqual((await seenOf(page, ids[2], 0)).filter((what) => what !== "updated"), ["joined", "left (closed)"]);
    }
    for (const page of pages) assert.deepEqual(page.errors, []);
  });
});

test("a page with the tutorial's code and one with the client see each other in the same room", { timeout: 90_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const ada = await visit(await (await browser(t)).newContext(), app, cluster, "n1", "Ada", { user: { name: "Ada", color: 120 } });
    const tutorial = await openTutorial(t, cluster, "n2");
    await ada.evaluate(() => visit.room.cursors.set(200, 150));
    const { sender, color } = await cursorAt(tutorial, 200, 150);
    assert.equal(sender, await idOf(ada));
    assert.match(color, /^rgb\(/);

    await tutorial.mouse.move(444, 222);
    await eventually("its cursor is there, with a member", async () => {
      const seen = await ada.evaluate(() => Object.entries(visit.cursors).map(([id, { x, y }]) =>
        ({ x, y, node: visit.room.others.find((member) => member.id === id)?.node })));
      assert.deepEqual(seen, [{ x: 444, y: 222, node: "n2" }]);
      return true;
    });
    await tutorial.close();
    assert.equal((await entry(ada, "left")).reason, "closed");
    const second = await openTutorial(t, cluster, "n3");
    await ada.evaluate(() => visit.room.cursors.set(210, 160));
    await cursorAt(second, 210, 160);
    await ada.evaluate(() => visit.client.close());
    await eventually("her cursor is out of sight", async () => !(sender in await cursors(second)));
    assert.deepEqual(ada.errors, []);
  });
});

test("a hidden tab goes on with timers, and is back within a second when somebody looks", { timeout: 90_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const bo = await visit(await (await browser(t)).newContext(), app, cluster, "n2", "Bo");
    const { context } = await realBrowser(t);
    const ada = await visit(context, app, cluster, "n1", "Ada", { port: cluster.link("n1").port });
    const [id] = await speak([ada, bo]);

    const front = await context.newPage();
    await front.bringToFront();
    await eventually("her tab is hidden", () => ada.evaluate(() => document.visibilityState === "hidden"));
    const frames = await ada.evaluate(() => new Promise((resolve) => {
      let drawn = false;
      requestAnimationFrame(() => { drawn = true; });
      setTimeout(() => resolve(drawn), 300);
    }));
    assert.equal(frames, false, "no animation frames there");
    await ada.evaluate(() => visit.room.cursors.set(11, 22));
    await eventually("what she says is seen all the same", async () => {
      assert.deepEqual(await cursorOf(bo, id), [11, 22]);
      return true;
    });

    // The wire is pulled for longer than the node waits for a sign of life; hidden tabs have slow timers.
    const hidden = Date.now();
    for (const node of cluster.names) cluster.link(node).pull();
    await eventually("the others see her away", async () => (await seenOf(bo, id, hidden)).includes("away"), { within_ms: 15_000 });
    for (const node of cluster.names) cluster.link(node).plug({ dead: true });
    const looked = Date.now();
    await ada.bringToFront();
    const back = await eventually("she is back", async () =>
      (await told(ada, { since: hidden })).find(({ what }) => what === "recovered" || what === "rebuilt"));
    assert.equal(back.what, "recovered");
    const late_ms = back.at - looked;
    assert.ok(late_ms < 1000, `back after ${late_ms} ms`);
    await eventually("the others see her back", async () => (await seenOf(bo, id, hidden)).at(-1)?.startsWith("back on"));
    const seen = await seenOf(bo, id, hidden);
    assert.equal(seen.length, 2, `seen: ${seen}`);
    assert.equal(await idOf(ada), id);
    const { heard } = await agree([ada, bo], { broken: [ada] });
    t.diagnostic(`hidden tab: recovered ${Math.max(0, late_ms)} ms after it was looked at; others saw ${seen.join(", ")}; ${heard} events heard`);
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
  }, { links: true, web: { ping_interval_ms: 1000, ping_timeout_ms: 2000 } });
});

test("a reload is the same member; a tab that is duplicated is another one", { timeout: 90_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    const context = await (await browser(t)).newContext();
    const ada = await visit(context, app, cluster, "n1", "Ada");
    const bo = await visit(context, app, cluster, "n2", "Bo");
    const [id] = await meet(ada, bo);

    const reloaded = Date.now();
    await ada.reload();
    await enter(ada, "Ada");
    assert.equal(await idOf(ada), id);
    const back = await entry(ada, "recovered", { since: reloaded });
    await eventually("seen back", async () => (await seenOf(bo, id, reloaded)).at(-1) === "back on n1");
    t.diagnostic(`reload: recovered after ${back.at - reloaded} ms; others saw ${(await seenOf(bo, id, reloaded)).join(", ")}`);
    assert.ok((await seenOf(bo, id, reloaded)).every((what) => !/left|joined/.test(what)));

    // What "duplicate tab" does: a window with the same address and a copy of the storage.
    const duplicate = async (page) => {
      const opened = context.waitForEvent("page");
      await page.evaluate(() => void window.open(location.href));
      const twin = await opened;
      twin.errors = [];
      twin.on("pageerror", (error) => twin.errors.push(String(error)));
      return twin;
    };
    const twin = await duplicate(ada);
    assert.deepEqual(await twin.evaluate(() => Object.keys(sessionStorage)), [], "there is nothing in it to be the same member with");
    await enter(twin, "Ada's twin");
    assert.equal(new Set(await meet(ada, twin, bo)).size, 3);

    // The worst case: the copy is made in the moment in which the page goes and its token is stored.
    await ada.evaluate(() => window.dispatchEvent(new PageTransitionEvent("pagehide", { persisted: true })));
    const thief = await duplicate(ada);
    const stolen = Date.now();
    await enter(thief, "Ada's copy");
    assert.equal(await idOf(thief), id, "the newer connection has the member");
    const { reason } = await entry(ada, "rebuilt", { since: stolen });
    assert.equal(reason, "superseded");
    const ids = await meet(ada, thief, twin, bo);
    assert.equal(new Set(ids).size, 4, "four tabs, four members");
    assert.ok((await told(ada, { since: stolen })).some(({ code }) => code === 4409));
    const seen = await seenOf(bo, id, stolen);
    assert.ok(seen.every((what) => !/left|joined/.test(what)), `others saw ${seen}`);
    t.diagnostic(`copied token: the older tab is somebody new after ${(await entry(ada, "rebuilt", { since: stolen })).at - stolen} ms`);
    for (const page of [ada, bo, twin, thief]) assert.deepEqual(page.errors, []);
  });
});
