// A node that dies without a word, or stops in good order, costs its own visitors a moment and the
// others nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, connected, cursorAt, cursors, openDemo, openTutorial, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

/** From the crash to the moment when no page shows a visitor of the dead node. */
const FORGOTTEN_WITHIN_MS = 5000;

test("a node killed and started again is back, its page too, and the other pages never notice more", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    const cy = await openDemo(chromium, cluster, "n3", "Cy");
    const tutorial = await openTutorial(t, cluster, "n1");
    const untouched = [ada, cy];
    let reloads = 0;
    for (const page of [ada, bo, cy, tutorial]) {
      page.on("load", () => { reloads += 1; });
    }
    let reconnects = 0;
    for (const page of [...untouched, tutorial]) page.on("websocket", () => { reconnects += 1; });

    await bo.mouse.move(300, 310);
    const before = await cursorAt(ada, 300, 310);
    await cursorAt(cy, 300, 310);
    await cursorAt(tutorial, 300, 310);

    await cluster.kill("n2");
    await Promise.all([ada, cy, tutorial].map((page) =>
      eventually("the dead node's visitor is gone", async () => !(before.sender in await cursors(page)), { within_ms: FORGOTTEN_WITHIN_MS })));
    await bo.locator('#state[data-state="reconnecting"]').waitFor();
    await screenshot(bo, "node-killed");

    await ada.mouse.move(410, 330);
    await cursorAt(cy, 410, 330);

    await cluster.start("n2");
    await cluster.whole();
    await connected(bo);
    await bo.mouse.move(350, 360);
    const [after] = await Promise.all([ada, cy, tutorial].map((page) => cursorAt(page, 350, 360)));
    assert.notEqual(after.sender, before.sender, "a new connection is a new sender");
    await ada.mouse.move(420, 340);
    await cursorAt(bo, 420, 340);

    for (const page of [ada, bo, cy]) {
      await eventually("everyone is listed once", async () => {
        const people = await peopleByNode(page);
        assert.deepEqual([people.n2, people.n3], [["Bo"], ["Cy"]]);
        assert.equal(people.n1.length, 2);
        return true;
      });
    }
    assert.equal(reloads, 0, "no page was loaded again");
    assert.equal(reconnects, 0, "no page of another node connected again");
    await screenshot(bo, "node-back");
  });
});

test("a node that stops tells its visitors to come back, and they do", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await bo.mouse.move(300, 310);
    const { sender } = await cursorAt(ada, 300, 310);
    const socket = await bo.evaluateHandle(() => {
      const socket = new WebSocket(`ws://${location.host}/ws?room=elsewhere`);
      const closed = new Promise((resolve) => { socket.onclose = ({ code }) => resolve(code); });
      return new Promise((resolve) => { socket.onopen = () => resolve({ closed }); });
    });

    assert.equal(await cluster.terminate("n2"), 0);
    assert.equal(await socket.evaluate(({ closed }) => closed), 1012);
    await eventually("its visitor is gone", async () => !(sender in await cursors(ada)), { within_ms: FORGOTTEN_WITHIN_MS });

    await cluster.start("n2");
    await cluster.whole();
    await connected(bo);
    await bo.mouse.move(330, 340);
    await cursorAt(ada, 330, 340);
  });
});
