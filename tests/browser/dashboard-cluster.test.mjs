// The page at /dashboard in front of three real nodes: anyone can watch a partition heal.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, openDemo, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventuallyShown, openDashboard } from "./harness/dashboard.mjs";
import { eventually } from "./harness/eventually.mjs";

const DIRECT_AGAIN_WITHIN_MS = 3000;
/** From the order to stop to the moment when no page shows the node. */
const STOPPED_WITHIN_MS = 5000;

test("a link cut by the button is gone around, nobody disappears, and healed it is direct again", { timeout: 120_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const page = await openDashboard(chromium, cluster.url("n1", "/dashboard"));
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    await openDemo(chromium, cluster, "n3", "Cy");
    await eventuallyShown(page, "three nodes answer, all links are measured, both members are counted", ({ state, links, nodes }) =>
      state === "Live from 3 of 3 nodes" && nodes.n1[3] === "1" && nodes.n3[3] === "1"
      && Object.values(links).length === 3 && Object.values(links).every(([, state, rtt, , traffic]) => state === "up" && /ms/.test(rtt) && /B\/s/.test(traffic)));

    let absences = 0;
    const watch = setInterval(() => void peopleByNode(ada).then((people) => { if (people.n3?.join() !== "Cy") absences += 1; }, () => {}), 100);
    t.after(() => clearInterval(watch));
    await eventually("Ada sees Cy", async () => (await peopleByNode(ada)).n3?.join() === "Cy");
    absences = 0;

    await page.getByRole("button", { name: "n1–n3", exact: true }).click();
    await page.getByRole("button", { name: "Cut this link" }).click();
    const cut = await eventuallyShown(page, "n1 reaches n3 by way of n2", ({ links, detours }) =>
      /^cut on purpose;.*by way of n2/.test(links["n1|n3"][1]) && detours.length > 0);
    assert.equal(cut.nodes.n3[3], "1", "the member of n3 is still counted");
    assert.equal(cut.drawn_links["link:n1|n3"], "cut");
    await screenshot(page, "dashboard-cluster-cut");

    await page.getByRole("button", { name: "Heal this link" }).click();
    const healing_at = performance.now();
    await eventuallyShown(page, "n1 and n3 are linked directly", ({ links, detours }) => links["n1|n3"][1] === "up" && detours.length === 0,
      { within_ms: DIRECT_AGAIN_WITHIN_MS });
    t.diagnostic(`direct again after ${Math.round(performance.now() - healing_at)} ms`);
    await eventuallyShown(page, "the log says so", ({ log }) => log.some((line) => /directly again/.test(line)));
    assert.equal(absences, 0, "Ada never lost sight of Cy");
    clearInterval(watch);

    await page.locator("#nodes").getByRole("button", { name: "n3" }).click();
    await page.getByRole("button", { name: "Stop this node" }).click();
    await page.getByRole("button", { name: "Yes, stop n3 now" }).click();
    await eventuallyShown(page, "n3 is gone", ({ nodes, links }) =>
      (!nodes.n3 || nodes.n3[2].startsWith("down")) && Object.keys(links).join() === "n1|n2", { within_ms: STOPPED_WITHIN_MS });
    await eventually("its member, too", async () => (await peopleByNode(ada)).n3 === undefined, { within_ms: STOPPED_WITHIN_MS });
    assert.deepEqual(page.errors, []);
  }, { args: ["--dev"] });
});

test("without --dev the page shows the mesh, and neither it nor anybody else can cut", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await openDashboard(await browser(t), cluster.url("n1", "/dashboard"));
    await eventuallyShown(page, "n1 tells of all", ({ state, links }) => state === "Live from n1" && Object.values(links).length === 3
      && Object.values(links).every(([, state]) => state === "up"));
    await page.getByRole("button", { name: "n1–n3", exact: true }).click();
    assert.equal(await page.getByRole("button", { name: "Cut this link" }).count(), 0);
    assert.match(await page.locator("#dev-hint").textContent(), /cursormesh serve --dev/);
    const response = await fetch(cluster.url("n1", "/api/dev/cut"), {
      method: "POST", headers: { "content-type": "application/json", "x-cursormesh-dev": "1" }, body: '{"peer":"n3"}',
    });
    assert.equal(response.status, 404);
  });
});
