// The case the tutorial leaves in the dark: a browser or a proxy that cannot connect.

import assert from "node:assert/strict";
import { once } from "node:events";
import http from "node:http";
import { test } from "node:test";
import { browser, connected, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";

test("a browser without WebSocket is told so", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await (await browser(t)).newPage();
    await page.addInitScript(() => { delete window.WebSocket; });
    await page.goto(cluster.url("n1"));
    const notice = page.getByRole("alert");
    await notice.waitFor();
    assert.match(await notice.innerText(), /browser cannot keep a live connection[\s\S]+Firefox, Chrome/);
    await screenshot(page, "no-websocket");
  });
});

test("a proxy that stops WebSocket is named, and the page recovers when it lets go", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const proxy = await upgradeStoppingProxy(t, cluster.port("n1"));
    const page = await (await browser(t)).newPage();
    await page.goto(proxy.url);
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 20_000 });
    const text = await notice.innerText();
    assert.match(text, /Something blocks the live connection/);
    assert.match(text, /proxy/);
    assert.match(text, new RegExp(`Tried ws://127\\.0\\.0\\.1:${proxy.port}/ws`));
    assert.equal(await page.locator("#state").textContent(), "Not connected");
    await screenshot(page, "proxy-stops-websocket");

    proxy.letUpgradesPass();
    await page.getByRole("button", { name: "Try again now" }).click();
    await connected(page);
    assert.equal(await notice.isVisible(), false);
  });
});

test("a node that does not answer is told apart from a proxy", { timeout: 60_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const page = await (await browser(t)).newPage();
    await page.goto(cluster.url("n1"));
    await connected(page);
    await cluster.kill("n1");
    const notice = page.getByRole("alert");
    await notice.waitFor({ timeout: 40_000 });
    assert.match(await notice.innerText(), /Node n1 does not answer/);
    await screenshot(page, "node-does-not-answer");
    await cluster.start("n1");
    await connected(page, { within_ms: 20_000 });
  });
});

/** A reverse proxy as many are by default: requests pass, upgrades do not. */
async function upgradeStoppingProxy(t, port) {
  let stops = true;
  const forward = (request) => http.request({ host: "127.0.0.1", port, method: request.method, path: request.url, headers: request.headers });
  const server = http.createServer((request, response) => {
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
  return { port: own, url: `http://127.0.0.1:${own}/`, letUpgradesPass: () => { stops = false; } };
}
