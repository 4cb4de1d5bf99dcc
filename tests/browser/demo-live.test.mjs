// What people do on the nodes' own page beside pointing: react, talk, follow, bring bots, change nodes.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { browser, changed, connected, cursorAt, cursors, idOf, mark, newPage, openDemo, openRaw, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { collectSparks } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

test("reactions rise where somebody points, by key and by button", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await ada.mouse.move(300, 310);
    await cursorAt(bo, 300, 310);
    for (const page of [ada, bo]) await collectSparks(page);
    const seen = (page, expected) => eventually(`${expected} is seen`, async () => {
      const all = await page.evaluate(() => sparks);
      return all.some((spark) => JSON.stringify(spark) === JSON.stringify(expected)) || assert.fail(JSON.stringify(all));
    });

    await ada.keyboard.press("3");
    for (const page of [ada, bo]) await seen(page, ["🎉", 300, 310]);
    // The pointer is on the button then; the place is where it was on the board.
    await ada.getByRole("button", { name: "Rocket" }).click();
    for (const page of [ada, bo]) await seen(page, ["🚀", 300, 310]);
    assert.deepEqual([...ada.errors, ...bo.errors], []);
  });
});

test("what somebody says is seen while it is typed; / opens it, Escape ends it", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    const said = (page) => page.locator("[data-cursormesh=cursors] .cursor:not(.waiting) .bubble:not([hidden])").allTextContents();
    await ada.mouse.move(300, 310);
    await cursorAt(bo, 300, 310);
    await collectSparks(bo);

    await ada.keyboard.press("/");
    assert.equal(await ada.evaluate(() => document.activeElement.id), "words");
    await ada.keyboard.type("room 1, or");
    await eventually("the beginning is seen", async () => (await said(bo)).join() === "room 1, or");
    assert.deepEqual(await said(ada), ["room 1, or"], "beside the own pointer, too");
    await ada.keyboard.type(" 2/3?");
    await eventually("the rest is seen", async () => (await said(bo)).join() === "room 1, or 2/3?");
    await ada.keyboard.press("Escape");
    await eventually("nothing is said", async () => (await said(bo)).length === 0);
    assert.equal(await ada.locator("#chat").isVisible(), false);
    assert.deepEqual(await bo.evaluate(() => sparks), [], "digits in a sentence are no reactions");
  });
});

test("somebody who is followed is looked after, whichever protocol their page speaks", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    const scrolled = (page) => page.evaluate(() => [view.scrollLeft, view.scrollTop]);
    await ada.mouse.move(300, 310);
    await cursorAt(bo, 300, 310);

    await bo.locator("[data-cursormesh=avatars]").getByRole("button", { name: "Ada" }).click();
    await bo.locator("#following").waitFor();
    assert.equal(await bo.locator("#followed").textContent(), "Ada");
    await ada.evaluate(() => view.scrollTo(600, 400));
    await eventually("he looks where she looks", async () => {
      const [left, top] = await scrolled(bo);
      assert.ok(Math.abs(left - 600) <= 4 && Math.abs(top - 400) <= 4, `${left}, ${top}`);
      return true;
    });
    await screenshot(bo, "following");
    // Both at another part of the board: a place on it is still the same place for both.
    await ada.mouse.move(250, 260);
    await eventually("her cursor is beside what she points at", async () => {
      const [left, top] = await scrolled(bo);
      const all = Object.values(await cursors(bo));
      return all.length === 1 && Math.abs(all[0].x + left - 850) < 1 && Math.abs(all[0].y + top - 660) < 1;
    });
    await bo.keyboard.press("Escape");
    await bo.locator("#following").waitFor({ state: "hidden" });

    await bo.evaluate(() => view.scrollTo(0, 0));
    const raw = await openRaw(chromium, cluster, "n3", { viewport: { width: 2000, height: 1400 } });
    await raw.mouse.move(1900, 1300);
    await eventually("a dot on the edge says that somebody is over there", async () => (await bo.locator("#edges .edge").count()) > 0);
    await bo.locator("#list .person", { hasText: "Guest" }).click();
    await eventually("he looks where it points", async () => Object.values(await cursors(bo)).length === 1);
    await raw.close();
    await bo.locator("#following").waitFor({ state: "hidden" });
    assert.deepEqual([...ada.errors, ...bo.errors], []);
  });
});

test("bots keep somebody company who is alone, on all nodes, until they are sent away or the page goes", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const watcher = await openDemo(chromium, cluster, "n3", "Watcher");
    const ada = await openDemo(chromium, cluster, "n1", "Ada", { query: "&bots=8" });
    const bots = (people) => Object.values(people).flat().filter((name) => name.endsWith(" bot"));
    await eventually("eight bots are there, on every node", async () => {
      const people = await peopleByNode(watcher);
      assert.equal(bots(people).length, 8);
      return Object.values(people).every((names) => names.some((name) => name.endsWith(" bot"))) && Object.keys(people).length === 3;
    }, { within_ms: 30_000 });
    const from = await eventually("all of them point at something", async () => {
      const now = await cursors(watcher);
      return Object.keys(now).length === 8 && now;
    }, { within_ms: 20_000 });
    await eventually("all of them move", async () => {
      const now = await cursors(watcher);
      return Object.keys(now).length === 8 && Object.entries(now).every(([id, { x, y }]) => from[id] && (from[id].x !== x || from[id].y !== y));
    }, { within_ms: 20_000 });
    assert.equal(await ada.locator("#count").textContent(), "10 here");
    await screenshot(ada, "demo-bots");

    await ada.getByRole("button", { name: "Stop 8 bots" }).click();
    await eventually("they are gone", async () => bots(await peopleByNode(watcher)).length === 0, { within_ms: 5_000 });

    await ada.locator("#people").getByRole("button", { name: "Add 8 bots" }).click();
    await eventually("eight others came", async () => bots(await peopleByNode(watcher)).length === 8, { within_ms: 30_000 });
    await ada.goto(cluster.url("n1", "/healthz"));
    // At once: before the 10 s are over for which a member stays whose connection broke.
    await eventually("they went with their page", async () => bots(await peopleByNode(watcher)).length === 0, { within_ms: 8_000 });
    assert.deepEqual([...ada.errors, ...watcher.errors], []);
  });
});

test("a visitor who is alone is told how not to be", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    await eventually("she is told", async () => (await ada.locator("#count").textContent()) === "Only you here");
    assert.equal(await ada.locator("#headline").textContent(), "You are the first one here");
    await ada.locator("#alone").getByRole("button", { name: "Add 8 bots" }).click();
    await ada.locator("#alone").waitFor({ state: "hidden" });
    await eventually("bots are there", async () => (await ada.locator("#count").textContent()) === "9 here", { within_ms: 30_000 });
  });
});

test("a visitor goes to another node as the same member, and nobody sees a leave", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await bo.mouse.move(300, 310);
    const { sender: id, color } = await cursorAt(ada, 300, 310);
    await eventually("he is listed", () => idOf(bo));
    await eventually("he is listed on her page", async () => (await peopleByNode(ada)).n2?.includes("Bo"));
    await mark(ada, id);
    let loads = 0;
    bo.on("load", () => { loads += 1; });

    for (const node of ["n3", "n1", "n2"]) {
      await bo.locator("#node").click();
      await bo.locator(`#nodes .entry[data-node="${node}"]`).click();
      await eventually(`he is on ${node}`, async () => (await bo.locator("#node-name").textContent()) === node);
      await connected(bo);
      assert.equal(await idOf(bo), id, "the same member");
      await eventually("she sees where he is", async () => (await peopleByNode(ada))[node]?.includes("Bo"));
      await bo.mouse.move(320, 330);
      await bo.mouse.move(330, 340);
      assert.deepEqual(await cursorAt(ada, 330, 340), { sender: id, color });
      await bo.mouse.move(300, 310);
      await cursorAt(ada, 300, 310);
      assert.deepEqual(await changed(ada, id), [], "nobody saw him leave");
    }
    assert.equal(loads, 0, "the page was not loaded again");

    // A choice holds only as long as the node does.
    await cluster.kill("n2");
    await eventually("he is on another one", async () => /^n[13]$/.test(await bo.locator("#node-name").textContent()), { within_ms: 20_000 });
    await connected(bo, { within_ms: 20_000 });
    assert.equal(await idOf(bo), id);
    assert.deepEqual([...ada.errors, ...bo.errors], []);
  });
});

test("axe finds nothing, in light, in dark, on a phone; and the page keeps its own policy", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await bo.mouse.move(130, 480);
    const looks = {
      light: {},
      dark: { colorScheme: "dark" },
      phone: { viewport: { width: 360, height: 640 }, hasTouch: true, isMobile: true },
    };
    for (const [look, options] of Object.entries(looks)) {
      const page = await openDemo(chromium, cluster, "n1", "أحمد", options);
      await eventually("both are there", async () => (await page.locator("#count").textContent()) === "2 here");
      const check = async (what) => {
        // As the browser's tools do it: the page's policy forbids scripts of others.
        await page.evaluate(AXE);
        const { violations } = await page.evaluate(() => axe.run());
        assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], `${look}, ${what}`);
      };
      await check("as it opens");
      await page.locator("#node").click();
      await page.locator("#nodes .entry").first().waitFor();
      await check("with its menu of nodes");
      await page.keyboard.press("Escape");
      if (look === "phone") await page.locator("#people-toggle").tap();
      await page.locator("#list .person", { hasText: "Bo" }).click();
      await page.keyboard.press("/");
      await check("following and talking");
      await screenshot(page, `axe-${look}`);

      assert.deepEqual(page.errors, [], "nothing of the page is against its policy");
      await page.evaluate(() => {
        const script = document.createElement("script");
        script.textContent = "window.taken = true";
        document.body.append(script);
      });
      assert.equal(await page.evaluate(() => window.taken), undefined, "the policy is in force");
      await page.context().close();
      await eventually("the page is gone", async () => (await bo.locator("#count").textContent()) === "Only you here", { within_ms: 15_000 });
    }
  });
});

test("a browser that stores nothing is a visitor like any", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await newPage(await browser(t));
    await page.addInitScript(() => {
      for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
      }
    });
    await page.goto(cluster.url("n1"));
    await connected(page);
    assert.match(await page.locator("#name").inputValue(), /^[A-Z][a-z]+ [A-Z][a-z]+$/);
    await page.locator("#name").fill("Ada");
    await eventually("her name is taken", async () => Object.values(await peopleByNode(page)).flat().includes("Ada"));
    assert.deepEqual(page.errors, []);
  });
});
