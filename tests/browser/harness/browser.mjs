// A real headless Chromium, and the few things every page test does with it.

import assert from "node:assert/strict";
import { existsSync, mkdirSync } from "node:fs";
import path from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { eventually } from "./eventually.mjs";
import { FRESH_ARGS, freshFiles } from "./files.mjs";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));
const SCREENSHOTS = path.join(REPOSITORY, "target/screenshots");
const TUTORIAL = pathToFileURL(path.join(REPOSITORY, "tests/pages/tutorial/index.html")).href;
const CANDIDATES = [process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];
const VIEWPORT = { width: 1000, height: 700 };

/** Where Chromium is. */
export function chromiumPath() {
  const found = CANDIDATES.find((candidate) => candidate && existsSync(candidate));
  assert.ok(found, "no Chromium found: install it (`apt-get install chromium`) or name one in CHROMIUM");
  return found;
}

/** A browser that ends with the test `t`. `args` go to Chromium as they are. */
export async function browser(t, args = []) {
  const started = await chromium.launch({
    executablePath: chromiumPath(),
    args: [
      "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
      "--disable-component-update", "--no-first-run", ...FRESH_ARGS, ...args,
    ],
  });
  t.after(() => started.close());
  return started;
}

/**
 * A visitor of a node's own page, as a person of that name with a browser profile of their own. `query`
 * is more of the address.
 */
export async function openDemo(browser, cluster, node, name, { room = "lobby", query = "", ...options } = {}) {
  const page = await newPage(browser, options);
  await page.addInitScript((name) => {
    if (localStorage.getItem("cursormesh.name") === null) localStorage.setItem("cursormesh.name", name);
  }, name);
  await page.goto(cluster.url(node, `/?room=${encodeURIComponent(room)}${query}`), { waitUntil: "commit" });
  await connected(page);
  return page;
}

/** Waits until a page of ours says that it is connected. */
export async function connected(page, { within_ms = 15_000 } = {}) {
  await page.locator('#state[data-state="connected"]').waitFor({ timeout: within_ms });
}

/** A browser in which the one address that the tutorial's pages know, localhost:7071, leads to `node`. */
export function tutorialBrowser(t, cluster, node) {
  return browser(t, [`--host-resolver-rules=MAP localhost:7071 127.0.0.1:${cluster.port(node)}`]);
}

/** The tutorial's page, unmodified, connected to `node`: in a browser of its own, or in one for that node. */
export async function openTutorial(t, cluster, node, mapped) {
  const page = await newPage(mapped ?? await tutorialBrowser(t, cluster, node));
  const opened = page.waitForEvent("websocket");
  await page.goto(TUTORIAL);
  assert.equal((await opened).url(), "ws://localhost:7071/ws");
  await eventually(`the tutorial's page is connected to ${node}`, () => page.evaluate("socket.readyState === WebSocket.OPEN"));
  return page;
}

/** A page with a profile of its own, whose errors are noted, what its policy forbids among them. */
export async function newPage(browser, options = {}) {
  const context = await browser.newContext({ viewport: VIEWPORT, ...options });
  await freshFiles(context);
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => /Content Security Policy|Content-Security-Policy/.test(message.text()) && page.errors.push(message.text()));
  return page;
}

/**
 * The cursors a page shows, ours or the tutorial's, by sender: where, and the colour the browser
 * computed for the arrow. Cursors outside the window are left out.
 */
export function cursors(page) {
  return page.evaluate(() => {
    const place = ({ e: x, f: y }) => ({ x, y });
    const tutorial = [...document.querySelectorAll("[data-sender]")].map((element) =>
      [element.dataset.sender, element, element.querySelector("path")]);
    const glass = document.querySelector("[data-cursormesh=cursors]")?.shadowRoot;
    const ours = [...(glass?.querySelectorAll(".cursor:not(.mine):not(.waiting):not(.gone)") ?? [])].map((element) =>
      [element.dataset.member, element, element.querySelector(".arrow path:last-child")]);
    return Object.fromEntries([...tutorial, ...ours].flatMap(([sender, element, arrow]) => {
      const { x, y } = place(new DOMMatrix(getComputedStyle(element).transform));
      if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) return [];
      return [[sender, { x, y, color: getComputedStyle(arrow).fill }]];
    }));
  });
}

/** Waits until `page` shows a cursor at exactly this place; returns its sender and colour. */
export function cursorAt(page, x, y, options) {
  return eventually(`a cursor is at ${x}, ${y}`, async () => {
    const shown = await cursors(page);
    const found = Object.entries(shown).find(([, cursor]) => cursor.x === x && cursor.y === y);
    assert.ok(found, `cursors: ${JSON.stringify(shown)}`);
    return { sender: found[0], color: found[1].color };
  }, options);
}

/** Who a page of ours lists, per node: `{n1: ["Ada"], ...}`. */
export function peopleByNode(page) {
  return page.evaluate(() => Object.fromEntries([...document.querySelectorAll("#list .node")].map((node) =>
    [node.dataset.node, [...node.querySelectorAll(".name")].map((name) => name.textContent).sort()])));
}

/** The id of the page's own member. */
export function idOf(page) {
  return page.evaluate(() => [...document.querySelectorAll("#list [data-member]")].find((row) =>
    row.querySelector(".note").textContent === "you")?.dataset.member);
}

/** A page that speaks the tutorial's protocol, as every node serves it. */
export async function openRaw(browser, cluster, node, { room = "lobby", ...options } = {}) {
  const page = await newPage(browser, options);
  await page.goto(cluster.url(node, `/tutorial?room=${encodeURIComponent(room)}`));
  await eventually("the page is connected", async () => /^Connected/.test(await page.locator("#state").textContent()));
  return page;
}

/** Marks a member's cursor and row on a page: a member that leaves and comes again gets others. */
export async function mark(page, id) {
  await page.evaluate((id) => {
    window.marked = [
      document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(`[data-member="${id}"]:not(.gone)`),
      document.querySelector(`#list [data-member="${id}"]`),
    ];
    if (marked.includes(null)) throw new Error("the member is not shown");
  }, id);
}

/** What became of what was marked: `[]` where it is still there, and is all that there is of the member. */
export function changed(page, id) {
  return page.evaluate((id) => {
    const [cursor, row] = marked;
    const glass = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
    const faces = document.querySelector("[data-cursormesh=avatars]").shadowRoot;
    return Object.entries({
      "its cursor went": !cursor.isConnected || cursor.classList.contains("gone"),
      "its row went": !row.isConnected,
      "it has two cursors": glass.querySelectorAll(`[data-member="${id}"]`).length > 1,
      "its face went": [...faces.querySelectorAll(".item.gone .face")].some((face) => face.ariaLabel.startsWith(row.querySelector(".name").textContent)),
    }).filter(([, is]) => is).map(([what]) => what);
  }, id);
}

/** The names beside the cursors that a page shows. */
export function labels(page) {
  return page.locator("[data-cursormesh=cursors] .cursor .label").allTextContents();
}

/** Writes what a page looks like to target/screenshots. */
export async function screenshot(page, name) {
  mkdirSync(SCREENSHOTS, { recursive: true });
  await page.screenshot({ path: path.join(SCREENSHOTS, `${name}.png`) });
}
