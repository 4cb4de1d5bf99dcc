// The tutorial's page, unmodified, on three nodes: what it drew with one server it draws with three.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, cursorAt, cursors, openDemo, openRaw, openTutorial, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

test("every cursor is seen on every page, in the same place and colour", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const pages = [];
    for (const node of cluster.names) pages.push(await openTutorial(t, cluster, node));

    for (const [index, page] of pages.entries()) {
      const [x, y] = [120 + 200 * index, 150 + 100 * index];
      await page.mouse.move(x, y, { steps: 5 });
      // The page draws its own cursor too, from the echo.
      const seen = await Promise.all(pages.map((any) => cursorAt(any, x, y)));
      assert.deepEqual(seen[1], seen[0]);
      assert.deepEqual(seen[2], seen[0]);
      assert.match(seen[0].color, /^rgb\(/);
    }
    const shown = await Promise.all(pages.map(cursors));
    assert.equal(Object.keys(shown[0]).length, 3);
    assert.deepEqual(shown[1], shown[0]);
    assert.deepEqual(shown[2], shown[0]);
    for (const page of pages) assert.deepEqual(page.errors, []);
    await Promise.all(pages.map((page, index) => screenshot(page, `tutorial-n${index + 1}`)));
  });
});

test("it meets the nodes' own page, and a cursor that left is out of sight", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const tutorial = await openTutorial(t, cluster, "n2");

    await tutorial.mouse.move(444, 222);
    const onDemo = await cursorAt(ada, 444, 222);
    assert.deepEqual(await cursorAt(tutorial, 444, 222), onDemo, "the arrow's colour is the same on both");

    await ada.mouse.move(500, 350);
    const { sender } = await cursorAt(tutorial, 500, 350);
    await eventually("a visitor without a name gets a short one", async () =>
      (await ada.locator("#list .name").allTextContents()).includes(`Guest ${onDemo.sender.slice(0, 4)}`));
    await screenshot(ada, "mixed-demo");
    await screenshot(tutorial, "mixed-tutorial");

    await ada.close();
    // A page that goes may come back: its member stays for 10 s.
    await eventually("her cursor is out of sight", async () => !(sender in await cursors(tutorial)), { within_ms: 15_000 });
  });
});

test("the node's own page for it does the same, in any room, and is one click from the demo", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const room = "a room/über ☃";
    const ada = await openDemo(chromium, cluster, "n1", "Ada", { room });
    const raw = await openRaw(chromium, cluster, "n2", { room });
    const elsewhere = await openRaw(chromium, cluster, "n3");
    assert.equal(await ada.locator("#tutorial").getAttribute("href"), `tutorial?room=${encodeURIComponent(room)}`);
    assert.equal(await raw.locator("#demo").getAttribute("href"), `./?room=${encodeURIComponent(room)}`);

    await raw.mouse.move(444, 222);
    const onDemo = await cursorAt(ada, 444, 222);
    assert.deepEqual(await cursorAt(raw, 444, 222), onDemo);
    await ada.mouse.move(500, 350);
    await cursorAt(raw, 500, 350);
    assert.deepEqual(await cursors(elsewhere), {});
    await screenshot(raw, "tutorial-own");

    await raw.close();
    await eventually("its cursor is gone", async () => Object.keys(await cursors(ada)).length === 0);
    for (const page of [ada, elsewhere]) assert.deepEqual(page.errors, []);
  });
});
