// A node that dies without a word, or stops in good order, costs its own visitors a moment and the
// others nothing.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, changed, connected, cursorAt, cursors, idOf, mark, openDemo, openRaw, openTutorial, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

/** From the crash to the moment when no page shows a visitor of the dead node that does not come back. */
const FORGOTTEN_WITHIN_MS = 5000;

test("a node killed and started again: its visitors go elsewhere as who they are, and the other pages never notice more", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    const cy = await openDemo(chromium, cluster, "n3", "Cy");
    const raw = await openRaw(chromium, cluster, "n2");
    const tutorial = await openTutorial(t, cluster, "n1");
    const untouched = [ada, cy, tutorial];
    let reloads = 0;
    for (const page of [ada, bo, cy, tutorial]) {
      page.on("load", () => { reloads += 1; });
    }
    let reconnects = 0;
    for (const page of untouched) page.on("websocket", () => { reconnects += 1; });

    await bo.mouse.move(300, 310);
    const before = await cursorAt(ada, 300, 310);
    await cursorAt(cy, 300, 310);
    await cursorAt(tutorial, 300, 310);
    await raw.mouse.move(200, 450);
    const { sender: lost } = await cursorAt(ada, 200, 450);
    await Promise.all([cy, tutorial].map((page) => cursorAt(page, 200, 450)));
    const id = await idOf(bo);
    assert.equal(id, before.sender);
    for (const page of [ada, cy]) await mark(page, id);

    await cluster.kill("n2");
    await Promise.all(untouched.map((page) =>
      eventually("the dead node's visitor is gone", async () => !(lost in await cursors(page)), { within_ms: FORGOTTEN_WITHIN_MS })));
    await eventually("its other visitor is on another node", async () => /^n[13]$/.test(await bo.locator("#node-name").textContent()));
    await connected(bo);
    await screenshot(bo, "node-killed");

    await ada.mouse.move(410, 330);
    await Promise.all([cy, bo].map((page) => cursorAt(page, 410, 330)));
    await bo.mouse.move(350, 360);
    for (const after of await Promise.all(untouched.map((page) => cursorAt(page, 350, 360)))) {
      assert.deepEqual(after, before, "the same member in the same colour");
    }
    assert.equal(await idOf(bo), id);
    for (const page of [ada, cy]) assert.deepEqual(await changed(page, id), [], "nobody saw him leave");

    await cluster.start("n2");
    await cluster.whole();
    const dee = await openDemo(chromium, cluster, "n2", "Dee");
    await dee.mouse.move(250, 250);
    await Promise.all([...untouched, bo].map((page) => cursorAt(page, 250, 250)));
    await ada.mouse.move(420, 340);
    await Promise.all([bo, dee].map((page) => cursorAt(page, 420, 340)));

    for (const page of [ada, bo, cy, dee]) {
      await eventually("everyone is listed once", async () => {
        const people = await peopleByNode(page);
        assert.deepEqual(people.n2, ["Dee"]);
        const others = Object.values(people).flat().filter((name) => !name.startsWith("Guest "));
        assert.deepEqual(others.sort(), ["Ada", "Bo", "Cy", "Dee"]);
        assert.equal(Object.values(people).flat().length, 5, "and the tutorial's page");
        return true;
      });
    }
    assert.equal(reloads, 0, "no page was loaded again");
    assert.equal(reconnects, 0, "no page of another node connected again");
    await screenshot(bo, "node-back");
  });
});

test("a node that stops tells its visitors to go elsewhere, and they do", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    const raw = await openRaw(chromium, cluster, "n2");
    await bo.mouse.move(300, 310);
    const { sender: id } = await cursorAt(ada, 300, 310);
    await raw.mouse.move(200, 450);
    const { sender: lost } = await cursorAt(ada, 200, 450);
    await mark(ada, id);
    const socket = await bo.evaluateHandle(() => {
      const socket = new WebSocket(`ws://${location.host}/ws?room=elsewhere`);
      const closed = new Promise((resolve) => { socket.onclose = ({ code }) => resolve(code); });
      return new Promise((resolve) => { socket.onopen = () => resolve({ closed }); });
    });

    assert.equal(await cluster.terminate("n2"), 0);
    assert.equal(await socket.evaluate(({ closed }) => closed), 1012);
    await eventually("its visitor that does not come back is gone", async () => !(lost in await cursors(ada)), { within_ms: FORGOTTEN_WITHIN_MS });
    await eventually("the other one is elsewhere", async () => /^n[13]$/.test(await bo.locator("#node-name").textContent()));
    await connected(bo);

    await cluster.start("n2");
    await cluster.whole();
    await bo.mouse.move(330, 340);
    assert.equal((await cursorAt(ada, 330, 340)).sender, id);
    assert.deepEqual(await changed(ada, id), [], "nobody saw him leave");
  });
});

test("where its node was the only one, the page says that it comes back, and does", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    for (const name of ["n1", "n3"]) await cluster.kill(name);
    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await cluster.kill("n2");
    await bo.locator('#state[data-state="reconnecting"]').waitFor();
    assert.match(await bo.locator("#state").textContent(), /^Reconnecting, try \d+/);
    await screenshot(bo, "node-gone");
    await cluster.start("n2");
    await connected(bo, { within_ms: 30_000 });
    assert.equal(await bo.locator("#notice").isVisible(), false);
  });
});
