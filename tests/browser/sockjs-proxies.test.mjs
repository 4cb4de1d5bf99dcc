// Proxies that lie, and which transport gets through them: for sockjs-client in Chromium and in Node, each
// left to choose by itself, and for the project's own client.

import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import utilities from "playwright-core/lib/utilsBundle";
import { connect } from "../../web/dist/cursormesh.mjs";
import { browser } from "./harness/browser.mjs";
import { withNode } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { Liar } from "./harness/liar.mjs";
import { sessions, site, sockjsPage } from "./harness/sockjs.mjs";

const HEARTBEAT_MS = 1_000;
/** Longer than the own client waits for the first byte of a stream, as such proxies are. */
const IDLE_MS = 4_000;
/** What a transport has to open: little, as several fail in a row, and enough for a machine that is busy. */
const PATIENCE_MS = 1_500;
/** Until a session is open: the client gives each transport several of the round trips that it measured. */
const OPEN_WITHIN_MS = 50_000;
/** Until the own client has what it stays with. */
const SETTLED_WITHIN_MS = 25_000;
/** Nothing breaks off for so long that it would have. */
const LASTS_MS = 1.5 * IDLE_MS;

/**
 * Each proxy, and what comes of it. `sockjs`: the transport of sockjs-client, or that its sessions do not
 * last; `own`: that of the project's client, and how it hears over SockJS.
 */
const PROXIES = [
  { name: "does nothing", lies: {}, chromium: "websocket", node: "websocket", own: "websocket" },
  // sockjs-client goes on to the next transport only before the first frame: what breaks after it is no
  // reason for another choice, the next session takes a WebSocket again.
  { name: "breaks WebSockets off soon", lies: { cuts: [100, 500] }, chromium: "breaks", node: "breaks", own: "xhr_streaming" },
  { name: "breaks WebSockets off at once", lies: { cuts: [0, 0] }, chromium: "xhr-streaming", node: "xhr-streaming", own: "xhr_streaming" },
  { name: "lets WebSockets open and nothing through", lies: { swallows: true }, chromium: "xhr-streaming", node: "xhr-streaming", own: "xhr_streaming" },
  { name: "strips upgrades", lies: { strips: true }, chromium: "xhr-streaming", node: "xhr-streaming", own: "xhr_streaming" },
  { name: "buffers answers", lies: { buffers: true }, chromium: "websocket", node: "websocket", own: "websocket" },
  { name: "strips upgrades and buffers answers", lies: { strips: true, buffers: true }, chromium: "xhr-polling", node: "xhr-polling", own: "xhr" },
  { name: "breaks WebSockets off soon and buffers answers", lies: { cuts: [100, 500], buffers: true }, chromium: "breaks", node: "breaks", own: "xhr" },
  { name: "breaks off what is idle", lies: { idle_ms: IDLE_MS }, chromium: "websocket", node: "websocket", own: "websocket" },
  { name: "strips upgrades and breaks off what is idle", lies: { strips: true, idle_ms: IDLE_MS }, chromium: "xhr-streaming", node: "xhr-streaming", own: "xhr_streaming" },
  { name: "strips upgrades, buffers answers and breaks off what is idle", lies: { strips: true, buffers: true, idle_ms: IDLE_MS }, chromium: "xhr-polling", node: "xhr-polling", own: "xhr" },
];

const SIGNS_OF_LIFE = [
  "--web-sockjs-heartbeat-ms", String(HEARTBEAT_MS), "--web-ping-interval-ms", String(HEARTBEAT_MS), "--web-ping-timeout-ms", "10000",
];

/** The transport of a session that lasts and is told what it says in its room; "breaks" of one that does not last. */
async function used({ transport, ending, texts, send }, lasts_ms) {
  const opened = await eventually("the session is open", transport, { within_ms: OPEN_WITHIN_MS });
  const end = Date.now() + lasts_ms;
  while (Date.now() < end) {
    if (await ending()) return "breaks";
    await sleep(50);
  }
  await send("{\"x\":1,\"y\":2}");
  await eventually("what it says comes back", async () => (await texts()).some((text) => text.startsWith("{\"x\":1,\"y\":2,")));
  assert.equal(await ending(), null);
  return opened;
}

function plainWebSocket(url, protocols) {
  const socket = new utilities.ws(url, protocols, { perMessageDeflate: false });
  socket.on("error", () => {});
  return socket;
}

/** What the project's own client uses once it has settled. */
async function ownUses(t, liar, name) {
  // Whatever address the node gives, the proxy is in between.
  const through = (address) => Object.assign(new URL(address), { port: liar.port }).href;
  const environment = {
    webSocket: (url, protocols) => plainWebSocket(through(url), protocols),
    fetch: (url, init) => fetch(through(url), init),
  };
  const client = connect({ url: liar.url(), persist: false, environment });
  t.after(() => client.close());
  const room = client.room(name);
  const heard = new Set();
  room.events.on("say", ({ data }) => heard.add(data));
  let lost_at = 0;
  const began = Date.now();
  client.on("status", ({ state }) => { if (state === "reconnecting") lost_at = Date.now(); });
  let connected_ms = 0;
  room.on("ready", () => { connected_ms = Date.now() - began; });
  // It has settled once it lasts.
  await eventually("the own client has settled", () => room.joined && Date.now() - Math.max(lost_at, began) > LASTS_MS, { within_ms: SETTLED_WITHIN_MS });
  room.events.send("say", name);
  await eventually("what it says comes back", () => heard.has(name));
  const { transport, fallback } = client.status;
  if (transport === "websocket") assert.equal(fallback, null);
  else assert.match(fallback, /^WebSocket (does not open|breaks right after it opens)$/);
  const over = (what) => Object.values(liar.taken[what] ?? {}).length > 0;
  const settled_ms = Math.max(lost_at - began, connected_ms);
  return { used: transport === "websocket" ? transport : over("xhr") ? "xhr" : "xhr_streaming", settled_ms };
}

test("each client finds the transport that a proxy lets through", { timeout: 120_000, concurrency: true }, async (t) => {
  const home = await site(t);
  const open = sessions(t);
  const page = await sockjsPage(await browser(t));
  await page.goto(home.url("sockjs/sessions.html"));
  await withNode(async (node) => {
    await Promise.all(PROXIES.map(({ name, lies, ...wanted }, index) => t.test(`a proxy that ${name}`, async (t) => {
      const [forChromium, forNode, forOwn] = await Promise.all([1, 2, 3].map(() => Liar.open(t, [node.port], lies)));
      const lasts_ms = lies.idle_ms || lies.cuts ? LASTS_MS : 0;
      const inChromium = async () => {
        await page.evaluate(([...args]) => openSession(...args), [name, forChromium.url(`/ws?room=c${index}`), { timeout: PATIENCE_MS }]);
        return used({
          transport: () => page.evaluate((name) => sessions[name].transport, name),
          ending: () => page.evaluate((name) => sessions[name].ending, name),
          texts: () => page.evaluate((name) => sessions[name].texts, name),
          send: (text) => page.evaluate(([name, text]) => sessions[name].socket.send(text), [name, text]),
        }, lasts_ms);
      };
      const inNode = async () => {
        const session = await open(forNode.url(`/ws?room=n${index}`), null, { timeout: PATIENCE_MS });
        return used({
          transport: () => session.transport, ending: () => session.ending, texts: () => session.texts, send: (text) => session.send(text),
        }, lasts_ms);
      };
      const word = (what) => (error) => `${what}: ${error.message}`;
      const began = Date.now();
      const [inPage, inProcess, own] = await Promise.all([
        inChromium().catch(word("in Chromium")), inNode().catch(word("in Node")), ownUses(t, forOwn, `own ${index}`).catch(word("own")),
      ]);
      const got = { chromium: inPage, node: inProcess, own: own.used ?? own };
      t.diagnostic(`${name}: ${JSON.stringify(got)}; the own client after ${own.settled_ms} ms; all told after ${Date.now() - began} ms`);
      assert.deepEqual(got, wanted);
    })));
  }, SIGNS_OF_LIFE);
});

test("without signs of life a proxy that breaks off what is idle breaks every transport", { timeout: 60_000 }, async (t) => {
  const open = sessions(t);
  await withNode(async (node) => {
    const liar = await Liar.open(t, [node.port], { idle_ms: IDLE_MS });
    const idle = await Promise.all(["websocket", "xhr-streaming", "xhr-polling", "eventsource"].map((transport) => open(liar.url("/ws"), transport)));
    await Promise.all(idle.map((session) => session.closed({ within_ms: 4 * IDLE_MS })));
  });
});
