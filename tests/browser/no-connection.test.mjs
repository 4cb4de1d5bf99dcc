// The case the tutorial leaves in the dark: a browser or a proxy that cannot connect.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { test } from "node:test";
import { browser, connected, cursorAt, newPage, openDemo, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

test("a browser without WebSocket is told so, and is in the room all the same", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n2", "Ada");
    const page = await newPage(chromium);
    await page.addInitScript(() => { delete window.WebSocket; });
    await page.goto(cluster.url("n1"));
    await connected(page, { within_ms: 30_000 });
    assert.equal(await page.locator("#transport").textContent(), "SockJS");
    assert.match(await page.locator("#note").innerText(), /This browser has no WebSocket[\s\S]+SockJS[\s\S]+Firefox, Chrome/);
    assert.equal(await page.locator("#note-retry").isVisible(), false, "there is nothing to try again");
    await page.mouse.move(300, 310);
    await cursorAt(ada, 300, 310);
    await ada.mouse.move(200, 330);
    await cursorAt(page, 200, 330);
    await screenshot(page, "no-websocket");

    await page.locator("#node").click();
    const other = page.locator('#nodes .entry[data-node="n3"]');
    assert.equal(await other.getAttribute("href"), cluster.url("n3", "/?room=lobby"), "over SockJS the way to another node is its own page");
    assert.deepEqual(page.errors, []);
  });
});

test("a browser without WebSocket whose HTTP does not get through either is told so", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await newPage(await browser(t));
    await page.addInitScript(() => { delete window.WebSocket; });
    await page.route("**/v1/sockjs/**", (route) => route.abort());
    await page.goto(cluster.url("n1"));
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 20_000 });
    assert.match(await notice.innerText(), /Something blocks the live connection[\s\S]+WebSocket, which this browser does not have, nor SockJS/);
  });
});

test("a proxy that stops WebSocket is named, SockJS serves meanwhile, and the page recovers when it lets go", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const proxy = await stoppingProxy(t, cluster.port("n1"), { sockjs: true });
    const page = await newPage(await browser(t));
    await page.goto(proxy.url);
    await connected(page, { within_ms: 30_000 });
    const note = page.locator("#note");
    await note.waitFor();
    assert.match(await note.innerText(), /Something blocks WebSocket[\s\S]+proxy[\s\S]+SockJS/);
    assert.equal(await note.getAttribute("role"), "status");
    assert.equal(await page.locator("#transport").textContent(), "SockJS");
    await screenshot(page, "proxy-stops-websocket");

    proxy.letAllPass();
    await page.getByRole("button", { name: "Try WebSocket now" }).click();
    await eventually("it is WebSocket", async () => (await page.locator("#transport").textContent()) === "WebSocket", { within_ms: 20_000 });
    assert.equal(await note.isVisible(), false);
  });
});

test("a proxy that stops WebSocket and SockJS is named, and the page recovers when it lets go", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const proxy = await stoppingProxy(t, cluster.port("n1"), { sockjs: false });
    const page = await newPage(await browser(t));
    await page.goto(proxy.url);
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 20_000 });
    const text = await notice.innerText();
    assert.match(text, /Something blocks the live connection/);
    assert.match(text, /proxy/);
    assert.match(text, new RegExp(`Tried ws://127\\.0\\.0\\.1:${proxy.port}/v1`));
    assert.match(await page.locator("#state").textContent(), /^Reconnecting, try \d/);
    await screenshot(page, "proxy-stops-all");

    proxy.letAllPass();
    await page.getByRole("button", { name: "Try again now" }).click();
    await connected(page, { within_ms: 30_000 });
    assert.equal(await notice.isVisible(), false);
  });
});

test("a node that does not answer is told apart from a proxy", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await newPage(await browser(t));
    await page.goto(cluster.url("n1"));
    await connected(page);
    for (const name of ["n2", "n3", "n1"]) await cluster.kill(name);
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 40_000 });
    assert.match(await notice.innerText(), /Node n1 does not answer/);
    await screenshot(page, "node-does-not-answer");
    await cluster.start("n1");
    await connected(page, { within_ms: 40_000 });
    assert.equal(await notice.isVisible(), false);
  });
});

test("a room that cannot be is said to be none", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await newPage(await browser(t));
    await page.goto(cluster.url("n1", `/?room=${"x".repeat(201)}`));
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 20_000 });
    assert.match(await notice.innerText(), /This room cannot be entered/);
  });
});

/** A reverse proxy as many are by default: requests pass, upgrades do not; those of SockJS only if told so. */
async function stoppingProxy(t, port, { sockjs }) {
  let stops = true;
  const forward = (request) => http.request({ host: "127.0.0.1", port, method: request.method, path: request.url, headers: request.headers });
  const server = http.createServer((request, response) => {
    if (stops && !sockjs && request.url.startsWith("/v1/sockjs")) return response.writeHead(403).end();
    const onward = forward(request);
    onward.on("response", (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    onward.on("error", () => response.destroy());
    request.pipe(onward);
  });
  server.on("upgrade", (request, socket) => {
    socket.on("error", () => socket.destroy());
    if (stops) {
      socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
      return;
    }
    const onward = forward(request);
    onward.on("upgrade", (answer, peer) => {
      const headers = answer.rawHeaders.reduce((lines, part, index) => lines + part + (index % 2 ? "\r\n" : ": "), "");
      socket.write(`HTTP/1.1 101 Switching Protocols\r\n${headers}\r\n`);
      peer.on("error", () => socket.destroy());
      peer.pipe(socket).pipe(peer);
    });
    onward.on("error", () => socket.destroy());
    onward.end();
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port: own } = server.address();
  return { port: own, url: `http://127.0.0.1:${own}/`, letAllPass: () => { stops = false; } };
}
