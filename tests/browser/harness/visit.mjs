// Pages that use the client, each with a diary of what it was told.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, readdirSync, rmSync } from "node:fs";
import http from "node:http";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";
import { chromiumPath } from "./browser.mjs";
import { eventually } from "./eventually.mjs";

const DIARY = fileURLToPath(new URL("../../pages/client/diary.js", import.meta.url));

/** An application's own server: it has the page, and the page takes the client from a node. */
export async function application(t) {
  const server = http.createServer((request, response) => {
    const url = new URL(request.url, "http://localhost");
    const script = url.searchParams.get("script");
    const load = script?.endsWith(".mjs")
      ? `<script type="module">import * as cursormesh from ${JSON.stringify(script)}; window.cursormesh = cursormesh;</script>`
      : `<script src="${script}"></script>`;
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(`<!doctype html><title>A page with cursors</title>${load}<script>${readFileSync(DIARY, "utf8")}</script>`);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: (script) => `http://127.0.0.1:${server.address().port}/?script=${encodeURIComponent(script)}` };
}

/** Opens the application's page in `context` and enters a room on the node that it has the client from. */
export async function visit(context, app, cluster, node, name, { file = "cursormesh.js", port = cluster.port(node), ...options } = {}) {
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  await page.goto(app.url(`http://127.0.0.1:${port}/${file}`));
  await enter(page, name, file.endsWith(".mjs") ? { connect: { url: `http://127.0.0.1:${port}` }, ...options } : options);
  return page;
}

/** Enters on a page that is loaded. */
export async function enter(page, name, options = {}) {
  await page.waitForFunction(() => window.cursormesh);
  await page.evaluate((options) => window.enter(options), { room: "lobby", user: { name }, state: { step: 0 }, ...options });
}

/** What the page's diary says since `since`, of all or of one member. */
export async function told(page, { since = 0, id } = {}) {
  const diary = await page.evaluate(() => visit.diary);
  return diary.filter((entry) => entry.at >= since && (id === undefined || entry.id === id));
}

/** The first entry of these kinds since `since`. */
export function entry(page, what, { since = 0, within_ms } = {}) {
  const kinds = [what].flat();
  return eventually(`the page is told ${kinds.join(" or ")}`, async () => {
    const diary = await told(page, { since });
    const found = diary.find((entry) => kinds.includes(entry.what));
    assert.ok(found, `diary: ${JSON.stringify(diary)}`);
    return found;
  }, { within_ms });
}

export const idOf = (page) => page.evaluate(() => visit.id);

/** Waits until each page shows all the others. */
export async function meet(...pages) {
  const ids = await Promise.all(pages.map(idOf));
  for (const [index, page] of pages.entries()) {
    await eventually("everyone is there", async () => {
      const others = await page.evaluate(() => visit.room.others.map(({ id }) => id));
      assert.deepEqual(others.toSorted(), ids.filter((_, other) => other !== index).sort());
      return true;
    });
  }
  return ids;
}

/** Has every page count aloud and waits until all are heard by all: nodes know of each other's interest then. */
export async function speak(pages, every_ms = 40) {
  const ids = await meet(...pages);
  for (const page of pages) await page.evaluate((ms) => visit.speak(ms), every_ms);
  for (const page of pages) {
    await eventually("everyone hears everyone", () => page.evaluate((ids) => ids.every((id) => visit.heard[id]?.length > 3), ids));
  }
  return ids;
}

/**
 * Has every page stop, waits until all is heard, and checks that of every sender all pages heard the
 * same from when they first heard it, its own included: in order, nothing twice, nothing left out. Only
 * what a page of `broken` put into a connection that was no more may be missing, and then everywhere.
 * Gives the number of events heard, and of those that went with a connection.
 */
export async function agree(pages, { broken = [] } = {}) {
  for (const page of pages) await page.evaluate(() => visit.rest());
  const result = { heard: 0, gone: 0 };
  for (const page of pages) {
    // The end of what is to be heard; said again, as the first may go the way of the others.
    const [sender, last] = await eventually("the last word is said", () => page.evaluate(async () => {
      const last = visit.said + 1;
      visit.speak(20);
      await new Promise((resolve) => setTimeout(resolve, 100));
      visit.rest();
      return visit.said >= last && [visit.id, visit.said];
    }));
    const lists = await Promise.all(pages.map((other) => eventually("the last word is heard", async () => {
      const heard = await other.evaluate((sender) => visit.heard[sender] ?? [], sender);
      assert.equal(heard.at(-1), last, `${heard.length} heard`);
      return heard;
    })));
    const all = [...new Set(lists.flat())].sort((a, b) => a - b);
    for (const heard of lists) {
      assert.deepEqual(heard, all.slice(all.indexOf(heard[0])), `what ${sender} said, and what somebody heard of it`);
      result.heard += heard.length;
    }
    const gone = last - all[0] + 1 - all.length;
    if (!broken.includes(page)) assert.equal(gone, 0, `of what ${sender} said nobody heard ${gone}`);
    result.gone += gone;
  }
  return result;
}

/** What `page` was told of a member, in words. */
export async function seenOf(page, id, since) {
  const diary = await told(page, { since, id });
  let away = false;
  return diary.map(({ what, reason, node, ...entry }) => {
    if (what !== "updated") return reason ? `${what} (${reason})` : what;
    const word = entry.away ? "away" : away ? `back on ${node}` : "updated";
    away = entry.away;
    return word;
  });
}

/**
 * A browser as a person has it, whose hidden tabs are hidden (under automation's usual settings every
 * tab counts as visible), and which can be put to sleep with the machine.
 */
export async function realBrowser(t) {
  const folder = mkdtempSync(path.join(os.tmpdir(), "cursormesh-chromium-"));
  const child = spawn(chromiumPath(), [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--remote-debugging-port=0", `--user-data-dir=${folder}`, "about:blank",
  ], { stdio: "ignore" });
  const end = () => { for (const pid of [...family(child.pid), child.pid]) signal(pid, "SIGKILL"); };
  process.on("exit", end);
  t.after(async () => {
    const ended = child.exitCode === null && child.signalCode === null && once(child, "exit");
    end();
    await ended;
    process.off("exit", end);
    rmSync(folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  });
  const note = path.join(folder, "DevToolsActivePort");
  const port = await eventually("Chromium is there", () => existsSync(note) && readFileSync(note, "utf8").split("\n")[0]);
  const started = await chromium.connectOverCDP(`http://127.0.0.1:${port}`, { noDefaults: true });
  return {
    context: started.contexts()[0],
    /** Every process of it stands still: what a laptop's closed lid is to everyone else. */
    sleep: () => { for (const pid of [...family(child.pid), child.pid]) signal(pid, "SIGSTOP"); },
    wake: () => { for (const pid of [child.pid, ...family(child.pid)]) signal(pid, "SIGCONT"); },
  };
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

/** The processes that a process started, and theirs. */
function family(pid) {
  const parents = new Map();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      const [, parent] = /\) \S (\d+)/.exec(readFileSync(`/proc/${name}/stat`, "utf8"));
      parents.set(Number(name), Number(parent));
    } catch {
      // It has ended.
    }
  }
  const found = [pid];
  for (const known of found) for (const [child, parent] of parents) if (parent === known) found.push(child);
  return found.slice(1);
}
