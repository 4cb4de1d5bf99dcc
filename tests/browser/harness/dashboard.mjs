// What every test of the page at /dashboard does with it.

import { eventually } from "./eventually.mjs";

/** A visitor of the dashboard at `url`, once it shows a mesh. `page.errors` has what went wrong in it. */
export async function openDashboard(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1200, height: 860 }, ...options });
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => { if (/Content Security Policy/.test(message.text())) page.errors.push(message.text()); });
  await page.goto(url);
  await page.locator("#main:not([aria-busy])").waitFor({ timeout: 20_000 });
  return page;
}

/** What the page shows of nodes and links, from its tables and its picture, in one look. */
export function shown(page) {
  return page.evaluate(() => {
    const cells = (row) => [...row.cells].map(({ textContent }) => textContent);
    const rows = (id, key) => Object.fromEntries([...document.querySelectorAll(`#${id} tbody tr`)].map((row) => [row.dataset[key], cells(row)]));
    const drawn = (selector, name) => Object.fromEntries([...document.querySelectorAll(selector)].map((part) => [part.dataset.part, part.getAttribute(name)]));
    return {
      nodes: rows("nodes", "node"),
      links: rows("links", "link"),
      drawn_nodes: drawn("#picture .node", "data-state"),
      drawn_links: drawn("#picture .link", "data-state"),
      detours: [...document.querySelectorAll("#picture .detour")].map(({ dataset: { from, to, by } }) => `${from} ${to} ${by}`),
      totals: Object.fromEntries([...document.querySelectorAll("#totals div")].map((fact) => [fact.querySelector("dt").textContent, fact.querySelector("dd").textContent])),
      state: document.getElementById("state").textContent,
      log: [...document.querySelectorAll("#log li span")].map(({ textContent }) => textContent),
    };
  });
}

/** Waits until what the page shows satisfies `check`, which may assert; returns that. */
export function eventuallyShown(page, fact, check, options) {
  return eventually(fact, async () => {
    const seen = await shown(page);
    if ((await check(seen)) !== false) return seen;
    throw new Error(`the page says ${JSON.stringify({ ...seen, drawn_nodes: undefined, drawn_links: undefined }).slice(0, 2500)}`);
  }, options);
}
