// The tutorial's SockJS page, unmodified, on three nodes, with every transport that its client has.

import assert from "node:assert/strict";
import { test } from "node:test";
import { cursorAt, cursors, openTutorial, screenshot, tutorialBrowser } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { BROWSER_TRANSPORTS, servePage, site, sockjsPage } from "./harness/sockjs.mjs";

const PAGE = "tutorial/sockjs.html";
/** A page of the same origin as its node, which only `htmlfile` needs. */
const OWN = "http://localhost:7071/page.html";

/** The page in `mapped`, connected by `transport`, or as its client likes. */
async function openPage(mapped, home, transport) {
  const page = await sockjsPage(mapped, transport);
  if (transport === "htmlfile") await servePage(page, OWN, PAGE);
  await page.goto(transport === "htmlfile" ? OWN : home.url(PAGE));
  if (transport) {
    await eventually(`the page is connected by ${transport}`, async () => {
      const [state, used] = await page.evaluate(() => [window.sockjs.readyState, window.sockjs.transport]);
      assert.deepEqual([state, used], [1, transport]);
      return true;
    }, { within_ms: 20_000 });
  }
  await eventually("the page has seen that it is connected", () => page.evaluate(() => document.body.onmousemove !== null));
  return page;
}

test("every transport on every node: all pages draw all cursors, in the same place and colour", { timeout: 120_000 }, async (t) => {
  const home = await site(t);
  await withCluster(async (cluster) => {
    const browsers = await Promise.all(cluster.names.map((node) => tutorialBrowser(t, cluster, node)));
    // The client's own choice first, as on every page out there.
    const wanted = [undefined, ...BROWSER_TRANSPORTS];
    const pages = (await Promise.all(browsers.map(async (mapped, index) => {
      const opened = [["raw", await openTutorial(t, cluster, cluster.names[index], mapped)]];
      for (const transport of wanted.filter((_, number) => number % browsers.length === index)) {
        opened.push([transport ?? "default", await openPage(mapped, home, transport)]);
      }
      return opened;
    }))).flat();
    assert.equal(pages.length, wanted.length + cluster.names.length);

    for (const [index, [name, page]] of pages.entries()) {
      const [x, y] = [60 + 70 * index, 80 + 45 * index];
      await page.mouse.move(x, y, { steps: 5 });
      // The page draws its own cursor too, from the echo.
      const seen = await Promise.all(pages.map(async ([other, any]) => {
        try {
          return await cursorAt(any, x, y);
        } catch (error) {
          error.message = `${name}'s cursor on ${other}'s page: ${error.message}`;
          throw error;
        }
      }));
      for (const one of seen) assert.deepEqual(one, seen[0]);
      assert.match(seen[0].color, /^rgb\(/);
    }
    const shown = await Promise.all(pages.map(([, page]) => cursors(page)));
    assert.equal(Object.keys(shown[0]).length, pages.length);
    for (const one of shown) assert.deepEqual(one, shown[0]);
    await screenshot(pages[1][1], "tutorial-sockjs");

    // A page that goes takes its cursor with it, whatever carried it.
    const left = pages.splice(1);
    await Promise.all(left.map(([, page]) => page.close()));
    await eventually("only those who stay are in sight", async () => Object.keys(await cursors(pages[0][1])).length === 1, { within_ms: 15_000 });
    for (const [name, page] of [...pages, ...left]) assert.deepEqual(page.errors, [], name);
  });
});
