// Pages of an application that draws cursors, and what one can see of them.

import assert from "node:assert/strict";
import { once } from "node:events";
import { existsSync } from "node:fs";
import http from "node:http";
import path from "node:path";
import { eventually } from "./eventually.mjs";

/**
 * An application's own server: `pages` are documents by path, each with the text `NODE` in place of the
 * node's address, and with the headers that it wants.
 */
export async function site(t, node, pages) {
  const server = http.createServer((request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const page = pages[pathname];
    // Every browser asks for one; that there is none is no error of the page.
    if (pathname === "/favicon.ico") return response.writeHead(204).end();
    if (!page) return response.writeHead(404).end();
    const { html, headers = {} } = typeof page === "string" ? { html: page } : page;
    const address = node.url("").replace(/\/$/, "");
    for (const [name, value] of Object.entries(headers)) response.setHeader(name, value.replaceAll("NODE", address));
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(html.replaceAll("NODE", address));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return (pathname) => `http://127.0.0.1:${server.address().port}${pathname}`;
}

/** A visitor with a browser profile of their own. */
export async function visitor(browser, url, options = {}) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 }, ...options });
  await freshClient(context);
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  page.on("console", (message) => message.type() === "error" && page.errors.push(message.text()));
  await page.goto(url);
  return page;
}

/** The client's files from the folder that CURSORMESH_DIST names, instead of those in the node. */
async function freshClient(context) {
  const dist = process.env.CURSORMESH_DIST;
  if (!dist) return;
  await context.route(/\/cursormesh[^/?]*\.m?js$/, (route) => {
    const file = path.join(dist, path.basename(new URL(route.request().url()).pathname));
    if (!existsSync(file)) return route.continue();
    return route.fulfill({ path: file, contentType: "text/javascript; charset=utf-8", headers: { "access-control-allow-origin": "*" } });
  });
}

/** The cursors that a page draws: by name, where their tip is in the window, and how they look. */
export function drawn(page) {
  return page.evaluate(() => [...document.querySelectorAll("[data-cursormesh=cursors]")].flatMap((host) =>
    host.checkVisibility() ? [...host.shadowRoot.querySelectorAll(".cursor:not(.mine):not(.waiting):not(.gone)")].map((cursor) => {
      const { left, top } = cursor.getBoundingClientRect();
      const label = cursor.querySelector(".label");
      return {
        id: cursor.dataset.member, name: label.hidden ? "" : label.textContent, x: left, y: top,
        chat: cursor.querySelector(".bubble").textContent, classes: [...cursor.classList],
      };
    }) : []));
}

/** Waits until `page` draws exactly one cursor, within a pixel of a place; gives it. */
export function cursorAt(page, x, y, within_px = 1) {
  return eventually(`a cursor is at ${x}, ${y}`, async () => {
    const all = await drawn(page);
    assert.equal(all.length, 1, JSON.stringify(all));
    assert.ok(Math.hypot(all[0].x - x, all[0].y - y) <= within_px, JSON.stringify(all));
    return all[0];
  });
}

/** The faces that a page draws, as a screen reader says them. */
export function faces(page) {
  return page.evaluate(() => [...document.querySelectorAll("[data-cursormesh=avatars]")].flatMap((host) =>
    [...host.shadowRoot.querySelectorAll("li")].map((item) => item.querySelector("button")?.ariaLabel ?? item.querySelector(".tip").textContent)));
}

/** The middle of an element in the window. */
export function middle(page, selector) {
  return page.evaluate((selector) => {
    const { left, top, width, height } = document.querySelector(selector).getBoundingClientRect();
    return { x: left + width / 2, y: top + height / 2 };
  }, selector);
}

/** Has a page note the reactions that it draws, as `[emoji, x, y]`. */
export async function collectSparks(page) {
  await page.evaluate(() => {
    window.sparks = [];
    const glass = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
    new MutationObserver((changes) => {
      for (const spark of changes.flatMap(({ addedNodes }) => [...addedNodes]).filter((node) => node.classList?.contains("spark"))) {
        const { e: x, f: y } = new DOMMatrix(spark.style.transform);
        sparks.push([spark.textContent, x, y]);
      }
    }).observe(glass, { childList: true, subtree: true });
  });
}
