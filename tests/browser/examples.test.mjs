// The example apps as they are built from the packed client, each in two windows.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createReadStream, existsSync, statSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { browser, screenshot } from "./harness/browser.mjs";
import { withNode } from "./harness/cluster.mjs";
import { cursorAt, faces, middle, visitor } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";

const EXAMPLES = fileURLToPath(new URL("../../web/examples", import.meta.url));
const TYPES = { ".html": "text/html; charset=utf-8", ".css": "text/css", ".js": "text/javascript", ".mjs": "text/javascript" };

/** Any static server: the files of a built example. */
async function served(t, name) {
  const folder = path.join(EXAMPLES, name, "dist");
  assert.ok(existsSync(folder), `${folder} is missing: run \`scripts/client examples\``);
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = path.join(folder, path.normalize(pathname === "/" ? "/index.html" : decodeURIComponent(pathname)));
    if (!file.startsWith(folder) || !existsSync(file) || !statSync(file).isFile()) return response.writeHead(pathname === "/favicon.ico" ? 204 : 404).end();
    response.setHeader("content-type", TYPES[path.extname(file)] ?? "application/octet-stream");
    createReadStream(file).pipe(response);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (node) => `http://127.0.0.1:${server.address().port}/?node=${encodeURIComponent(node.url(""))}`;
}

/** Opens a window of a person of this name. */
async function open(chromium, url, name) {
  const page = await visitor(chromium, "about:blank");
  await page.addInitScript((name) => localStorage.setItem("name", name), name);
  await page.goto(url);
  await page.locator("output", { hasText: "connected" }).waitFor();
  return page;
}

/** Ada and Bo see each other's cursors where they are, and each other's faces. */
async function meet(chromium, url) {
  const ada = await open(chromium, url, "Ada");
  const bo = await open(chromium, url, "Bo");
  for (const [page, others] of [[ada, ["Ada (you)", "Bo"]], [bo, ["Bo (you)", "Ada"]]]) {
    await eventually("both faces are there", async () => {
      assert.deepEqual(await faces(page), others);
      return true;
    });
  }
  for (const [from, to, name, x, y] of [[ada, bo, "Ada", 300, 400], [bo, ada, "Bo", 620, 510]]) {
    await from.mouse.move(x - 60, y - 40);
    await from.mouse.move(x, y, { steps: 5 });
    assert.equal((await cursorAt(to, x, y)).name, name);
  }
  return [ada, bo];
}

/** A window that is closed may be a reload: its person is shown as away until the node knows better. */
async function part(ada, bo, name) {
  await bo.close();
  await eventually("one face is pale", async () => (await faces(ada)).includes(`${name} (reconnecting)`));
  assert.deepEqual([...ada.errors, ...bo.errors], []);
}

test("the plain page: cursors, faces and names in two windows", { timeout: 60_000 }, async (t) => {
  const at = await served(t, "vanilla");
  await withNode(async (node) => {
    const [ada, bo] = await meet(await browser(t), at(node));
    await eventually("Bo is listed", async () => (await ada.locator("#people").textContent()).startsWith("Bo is here"));
    await bo.locator("#name").fill("<b>Bo</b>");
    await eventually("a new name is shown as it was written", async () => (await ada.locator("#people").textContent()).startsWith("<b>Bo</b> is here"));
    const files = await ada.evaluate(() => performance.getEntriesByType("resource").map(({ name }) => new URL(name).pathname.split("/").at(-1)));
    assert.equal(files.filter((file) => file === "cursormesh.mjs").length, 1, `loaded: ${files}`);
    await screenshot(ada, "example-vanilla");
    await part(ada, bo, "<b>Bo</b>");
  });
});

test("the board in React: cursors, faces, notes and reactions in two windows", { timeout: 60_000 }, async (t) => {
  const at = await served(t, "react");
  await withNode(async (node) => {
    const [ada, bo] = await meet(await browser(t), at(node));
    await bo.getByLabel("Your note").fill("Buy milk & <i>bread</i>");
    await ada.locator(".notes li p", { hasText: "Buy milk & <i>bread</i>" }).waitFor();
    for (const page of [ada, bo, bo]) await page.locator(".reactions button").nth(1).click();
    for (const page of [ada, bo]) await page.locator(".reactions button", { hasText: "🎉 3" }).waitFor();
    await bo.getByLabel("Your name").fill("Bo II");
    await ada.locator(".notes li small", { hasText: "Bo II" }).waitFor();
    const place = await middle(bo, ".notes textarea");
    await bo.mouse.move(place.x, place.y);
    assert.equal((await cursorAt(ada, place.x, place.y)).name, "Bo II");
    await screenshot(ada, "example-react");
    await part(ada, bo, "Bo II");
  });
});
