// The page that every node serves, on three nodes at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, cursorAt, cursors, openDemo, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

test("a mouse moved on one node's page appears on the others' at the same place, in the same colour", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo", { colorScheme: "dark" });
    const cy = await openDemo(chromium, cluster, "n3", "Cy", { reducedMotion: "reduce" });
    const pages = [ada, bo, cy];

    const colors = new Set();
    for (const [index, page] of pages.entries()) {
      const [x, y] = [200 + 150 * index, 300 + 40 * index];
      await page.mouse.move(x - 80, y - 60);
      await page.mouse.move(x, y, { steps: 8 });
      const [first, second] = await Promise.all(pages.filter((other) => other !== page).map((other) => cursorAt(other, x, y)));
      assert.deepEqual(first, second, "both others show the same sender in the same colour");
      colors.add(first.sender);
    }
    assert.equal(colors.size, 3, "three visitors, three senders");

    for (const page of pages) {
      await eventually("everyone is listed with their node", async () => {
        assert.deepEqual(await peopleByNode(page), { n1: ["Ada"], n2: ["Bo"], n3: ["Cy"] });
        return true;
      });
      assert.equal(Object.keys(await cursors(page)).length, 2, "one's own pointer is not drawn twice");
      assert.deepEqual(page.errors, []);
    }
    assert.equal(await ada.locator("#node").textContent(), "node n1");

    await Promise.all([screenshot(ada, "demo-light"), screenshot(bo, "demo-dark"), screenshot(cy, "demo-reduced-motion")]);
  });
});

test("who comes later sees where the others are, and who leaves takes the cursor along", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    await ada.mouse.move(321, 234);

    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await cursorAt(bo, 321, 234);

    await ada.locator("#name").fill("Ada the First");
    await eventually("a new name is shown", async () => (await bo.locator(".cursor .label").allTextContents()).includes("Ada the First"));

    await ada.close();
    await eventually("her cursor and her name are gone", async () => {
      assert.deepEqual(await cursors(bo), {});
      assert.deepEqual(await peopleByNode(bo), { n2: ["Bo"] });
      return true;
    });
  });
});

test("a cursor glides to where it is heard of, and jumps where motion is not wanted", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const gliding = await openDemo(chromium, cluster, "n2", "Bo");
    const jumping = await openDemo(chromium, cluster, "n3", "Cy", { reducedMotion: "reduce" });
    await ada.mouse.move(100, 300);
    await Promise.all([gliding, jumping].map((page) => cursorAt(page, 100, 300)));

    for (const page of [gliding, jumping]) {
      await page.evaluate(() => {
        window.drawn = [];
        const cursor = document.querySelector("[data-sender]");
        new MutationObserver(() => drawn.push(new DOMMatrix(cursor.style.transform).e))
          .observe(cursor, { attributeFilter: ["style"] });
      });
    }
    await ada.mouse.move(500, 300);
    await Promise.all([gliding, jumping].map((page) => cursorAt(page, 500, 300)));
    const between = (page) => page.evaluate(() => drawn.filter((x) => x > 100 && x < 500).length);
    assert.ok(await between(gliding) > 0);
    assert.equal(await between(jumping), 0);
  });
});

test("rooms do not mix", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const room = "a room/über ☃";
    const ada = await openDemo(chromium, cluster, "n1", "Ada", { room });
    const bo = await openDemo(chromium, cluster, "n2", "Bo", { room });
    const elsewhere = await openDemo(chromium, cluster, "n2", "Cy");
    await elsewhere.mouse.move(50, 400);
    await ada.mouse.move(400, 300);
    await cursorAt(bo, 400, 300);
    await eventually("only the room's visitors are listed", async () => {
      assert.deepEqual(await peopleByNode(bo), { n1: ["Ada"], n2: ["Bo"] });
      return true;
    });
    assert.equal(Object.keys(await cursors(bo)).length, 1);
    assert.deepEqual(await cursors(elsewhere), {});
  });
});

test("names are text and messages are data, whatever a visitor sends", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const rogue = await openDemo(chromium, cluster, "n2", "Rogue");
    await rogue.evaluate(() => new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://${location.host}/ws?room=lobby`);
      socket.onerror = reject;
      socket.onopen = () => {
        for (const message of [
          { name: { toString: "no" }, x: "1", y: [] },
          { x: 1e308, y: -1e308, name: "\u0000\u202e" },
          { client: {}, left: "true", sender: 7, color: "red", __proto__: null, constructor: 1 },
          { x: 90, y: 400, name: `<img src=x onerror="document.title='taken'">\u202e${"W".repeat(20000)}` },
        ]) socket.send(JSON.stringify(message));
        resolve();
      };
    }));
    await cursorAt(ada, 90, 400);
    const label = ada.locator(".cursor .label");
    assert.equal(await label.textContent(), `<img src=x onerror="document.title='taken'">`.slice(0, 40));
    assert.ok((await label.boundingBox()).width < 200, "a long name is cut short");
    assert.equal(await ada.locator("img").count(), 0);
    assert.equal(await ada.title(), "cursormesh · n1");
    assert.deepEqual(ada.errors, []);
    await screenshot(ada, "hostile-name");
  });
});

test("a phone sees the same room, and a finger moves a cursor", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const phone = await openDemo(chromium, cluster, "n3", "Philippa-Charlotte from a very small phone", {
      viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "dark",
    });
    await phone.touchscreen.tap(180, 220);
    await cursorAt(ada, 180, 220);
    await ada.mouse.move(120, 300);
    await cursorAt(phone, 120, 300);

    await phone.locator("#people summary").click();
    await eventually("both are listed", async () => (await phone.locator(".person").count()) === 2);
    const wide = await phone.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    assert.equal(wide, false, "nothing sticks out of the screen");
    const [bar, people] = await Promise.all(["#bar", "#people"].map((part) => phone.locator(part).boundingBox()));
    assert.ok(bar.y + bar.height <= people.y, "the panels do not overlap");
    await screenshot(phone, "demo-phone");
  });
});
