// The page's and the client's files from where they are written, instead of those in the node.

import { existsSync, readFileSync } from "node:fs";
import path from "node:path";

const TYPES = { ".html": "text/html", ".css": "text/css", ".svg": "image/svg+xml", ".mjs": "text/javascript", ".js": "text/javascript" };
const PAGES = { "/": "index.html", "/tutorial": "tutorial.html" };

/** The folder with the client's built files; `web/demo` is beside it. Unset: what the node has. */
const dist = process.env.CURSORMESH_DIST;

/** Chromium keeps pages that are filled in like this from sockets on this machine, unless it is told not to. */
export const FRESH_ARGS = dist ? ["--disable-features=LocalNetworkAccessChecks,LocalNetworkAccessChecksWebSockets"] : [];

/** Serves fresh files to the pages of `context`, where CURSORMESH_DIST says so. */
export async function freshFiles(context) {
  if (!dist) return;
  await context.route((url) => fileFor(url.pathname) !== null, (route) => {
    const file = fileFor(new URL(route.request().url()).pathname);
    return route.fulfill({ path: file, contentType: `${TYPES[path.extname(file)]}; charset=utf-8`, headers: { "access-control-allow-origin": "*" } });
  });
}

/** The same for a page of puppeteer's. */
export async function freshFilesOf(page) {
  if (!dist) return;
  await page.setRequestInterception(true);
  page.on("request", (request) => {
    const file = request.url().startsWith("http") ? fileFor(new URL(request.url()).pathname) : null;
    if (!file) return request.continue();
    return request.respond({ body: readFileSync(file), contentType: `${TYPES[path.extname(file)]}; charset=utf-8`, headers: { "access-control-allow-origin": "*" } });
  });
}

function fileFor(pathname) {
  const demo = path.join(dist, "../demo");
  const page = PAGES[pathname] ?? /^\/demo\/([a-z]+\.[a-z]+)$/.exec(pathname)?.[1];
  const built = /^\/(cursormesh[^/]*\.m?js)$/.exec(pathname)?.[1];
  const file = page ? path.join(demo, page) : built ? path.join(dist, built) : null;
  return file && existsSync(file) ? file : null;
}
