// A page that starts behind a far node: it ends up on the nearest one, and on the next nearest when that
// one is killed, and nobody sees it leave. Distance is a wire that holds every byte back for a while.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { agree, application, entry, idOf, seenOf, speak, told, visit } from "./harness/visit.mjs";

/** Each way, in milliseconds. */
const DISTANCE_MS = { n1: 150, n2: 0, n3: 40 };
const REGIONS = { n1: "far", n2: "near", n3: "middle" };
/** One look: the list, and per region one request that opens the connection and three that are timed. */
const LOOK_REQUESTS = 1 + 3 * 4;

/** Answers of `/v1/nodes` that the page has got. */
const answers = (page) => page.evaluate(() => performance.getEntriesByType("resource").filter(({ name, responseEnd }) => name.endsWith("/v1/nodes") && responseEnd > 0).length);

const nodeOf = (page) => page.evaluate(() => visit.client.status.node);

test("a page behind a far node moves to the nearest, and to the next nearest when that one is killed", { timeout: 120_000 }, async (t) => {
  const app = await application(t);
  await withCluster(async (cluster) => {
    for (const node of cluster.names) cluster.link(node).delay(DISTANCE_MS[node]);
    const context = await (await browser(t)).newContext();
    const opened = Date.now();
    const bo = await visit(context, app, cluster, "n3", "Bo", { connect: { nearest: false } });
    const ada = await visit(context, app, cluster, "n1", "Ada", { port: cluster.link("n1").port });
    assert.equal(await nodeOf(ada), "n1");
    const [id] = await speak([ada, bo]);
    const met = Date.now();

    await eventually("she is on the nearest node", async () => (await nodeOf(ada)) === "n2", { within_ms: 30_000 });
    const moved = await entry(ada, "recovered", { since: opened });
    await eventually("others see her there", () => bo.evaluate((id) => visit.room.others.some((one) => one.id === id && one.node === "n2" && !one.away), id));
    const statuses = (await told(ada, { since: opened })).filter(({ what }) => ["connected", "reconnecting", "lost"].includes(what));
    assert.ok(statuses.every(({ what }) => what === "connected"), JSON.stringify(statuses));
    assert.equal(await idOf(ada), id);
    const seen = await seenOf(bo, id, met);
    assert.ok(seen.every((what) => what === "updated"), `seen: ${seen}`);
    // She knows her way from there, too.
    // Twice before she moved, and once since.
    await eventually("she looked around again", async () => (await answers(ada)) >= 3 * LOOK_REQUESTS, { within_ms: 30_000 });

    const killed = Date.now();
    await cluster.kill("n2");
    const back = await entry(ada, ["recovered", "rebuilt"], { since: killed, within_ms: 15_000 });
    assert.ok(back.what === "recovered" || back.reason === "events_lost", JSON.stringify(back));
    const nodes = (await told(ada, { since: killed })).filter(({ what }) => what === "connected").map(({ node }) => node);
    assert.deepEqual(nodes, ["n3"]);
    assert.equal(await idOf(ada), id);
    await eventually("others see her there", () => bo.evaluate((id) => visit.room.others.some((one) => one.id === id && one.node === "n3" && !one.away), id));
    const seen_again = await seenOf(bo, id, killed);
    assert.ok(seen_again.every((what) => ["away", "updated", "back on n3"].includes(what)), `seen: ${seen_again}`);

    const { heard, gone } = await agree([ada, bo], { broken: [ada] });
    for (const page of [ada, bo]) assert.deepEqual(page.errors, []);
    t.diagnostic(`on the nearest node ${moved.at - opened} ms after opening; back on the next ${back.at - killed} ms after the kill; ${heard} events heard, ${gone} went with a connection`);
  }, { links: true, regions: REGIONS });
});
