// Each shipped proxy configuration in front of three real nodes: see scripts/deploy/test-proxies.
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { createServer } from "node:http";
import http2 from "node:http2";
import https from "node:https";
import { createRequire } from "node:module";
import { spawnSync } from "node:child_process";
import { parseArgs } from "node:util";
import { connect } from "../../../../web/dist/cursormesh.mjs";
import { Cluster, endAll, sleep, until } from "./cluster.mjs";

const require = createRequire(`${process.env.TOOLS}/`);
const WebSocket = require("ws");
const SockJS = require("sockjs-client");

const { values, positionals } = parseArgs({ allowPositionals: true, options: {
  idle: { type: "string", default: "30" }, only: { type: "string", default: "" },
} });
const idleMs = Number(values.idle) * 1000;
const kinds = positionals.length ? positionals : ["nginx", "haproxy", "caddy"];
const id = () => randomBytes(8).toString("hex");

// ---- clients --------------------------------------------------------------------------------------

/** A page of the tutorial's protocol. */
class Page {
  constructor(url) {
    this.socket = new WebSocket(url);
    this.got = [];
    this.socket.on("message", (data) => this.got.push(JSON.parse(data)));
    this.socket.on("error", () => {});
    this.closed = new Promise((done) => this.socket.on("close", (code) => { this.code = code; done(code); }));
    this.opened = new Promise((done, failed) => {
      this.socket.on("open", done);
      this.closed.then((code) => failed(new Error(`closed with ${code} before it opened`)));
    });
    this.opened.catch(() => {});
  }

  say(text) {
    this.socket.send(JSON.stringify({ x: 1, y: 2, text }));
  }
}

const pages = async (url, count) => {
  const all = Array.from({ length: count }, () => new Page(url));
  await Promise.all(all.map((page) => page.opened));
  return all;
};

/** The client library, as a page on the proxy's address has it. */
function member(cluster, room, name, transports = ["websocket", "sockjs"]) {
  const client = connect({
    url: cluster.origin,
    transports,
    environment: { webSocket: (url, protocols) => new WebSocket(url, protocols) },
  });
  const one = { client, room: client.room(room, { user: { name } }), events: [], left: [], resumed: [], cursors: new Set() };
  one.room.events.on("said", (event) => one.events.push(event.data));
  one.room.presence.on("left", (left) => one.left.push(left));
  one.room.on("recovered", () => one.resumed.push("recovered"));
  one.room.on("rebuilt", (how) => one.resumed.push(`rebuilt: ${how.reason}`));
  one.room.cursors.on((cursor) => one.cursors.add(cursor.member.id));
  return one;
}

/** sockjs-client with one transport. */
function sockjs(cluster, transport) {
  const socket = new SockJS(`${cluster.origin}/ws`, null, { transports: [transport] });
  const one = { socket, got: [], over: null };
  one.opened = new Promise((done, failed) => {
    socket.onopen = done;
    socket.onclose = (event) => { one.over = event; failed(new Error(`closed: ${event.code} ${event.reason}`)); };
  });
  one.opened.catch(() => {});
  socket.onmessage = (event) => one.got.push(JSON.parse(event.data));
  one.say = (text) => socket.send(JSON.stringify({ x: 1, y: 2, text }));
  return one;
}

/** An answer that goes on, with the time at which each piece came; HTTP/1.1. */
function stream(cluster, path, method) {
  const one = { text: "", closed: false };
  const request = https.request(`${cluster.origin}${path}`, { method, agent: false }, (answer) => {
    one.status = answer.statusCode;
    answer.setEncoding("utf8");
    answer.on("data", (piece) => { one.text += piece; });
    answer.on("close", () => { one.closed = true; });
    answer.on("error", () => {});
  });
  request.on("error", () => { one.closed = true; });
  request.end();
  one.vanish = () => request.destroy();
  return one;
}

/** The same over HTTP/2; `null` where the proxy does not speak it. */
async function stream2(cluster, path, method) {
  const session = http2.connect(cluster.origin);
  const ok = await new Promise((done) => {
    session.once("error", () => done(false));
    session.once("connect", () => done(session.alpnProtocol === "h2"));
  });
  if (!ok) { session.destroy(); return null; }
  const one = { text: "", closed: false };
  const request = session.request({ ":method": method, ":path": path });
  request.setEncoding("utf8");
  request.on("data", (piece) => { one.text += piece; });
  request.on("close", () => { one.closed = true; });
  request.on("error", () => {});
  request.end();
  one.vanish = () => session.destroy();
  return one;
}

const status = async (url, options) => {
  const answer = await fetch(url, { redirect: "manual", ...options });
  await answer.arrayBuffer();
  return answer;
};

// ---- what is checked ------------------------------------------------------------------------------

const checks = [
  ["the page is there, http leads to https, operators' addresses are not", async (cluster) => {
    for (const path of ["/", "/cursormesh.mjs", "/ws/info", "/api/rooms"]) {
      assert.equal((await status(cluster.origin + path)).status, 200, path);
    }
    for (const path of ["/metrics", "/healthz", "/readyz"]) {
      assert.equal((await status(cluster.origin + path)).status, 404, path);
    }
    if (cluster.plain) {
      const answer = await status(`http://localhost:${cluster.plain}/x?y`, {});
      assert.ok([301, 308].includes(answer.status));
      assert.match(answer.headers.get("location"), /^https:\/\/localhost.*\/x\?y$/);
    }
  }],

  ["SockJS clients are told the proxy's address, whatever a browser claims", async (cluster) => {
    const headers = { "X-Forwarded-Host": "evil.example", "X-Forwarded-Proto": "http" };
    for (const options of [{}, { headers }]) {
      const info = await (await fetch(`${cluster.origin}/ws/info`, options)).json();
      assert.match(info.base_url, new RegExp(`^${cluster.origin}/ws/~n[123]$`));
    }
  }],

  ["plain WebSockets on all nodes hear each other", async (cluster) => {
    const all = await pages(`${cluster.origin.replace("https", "wss")}/ws?room=plain`, 6);
    const members = await until("all nodes know all six", async () => {
      const lists = await Promise.all(cluster.nodes.map((node) => cluster.members(node, "plain")));
      return lists.every((list) => list.length === 6) && lists[0];
    });
    assert.equal(new Set(members.map((one) => one.node)).size, 3, "spread over three nodes");
    all.forEach((page, index) => page.say(`from ${index}`));
    for (const page of all) {
      await until("everyone heard everyone", () => new Set(page.got.map((one) => one.text).filter(Boolean)).size === 6);
    }
    for (const page of all) page.socket.close();
  }],

  ["the client library on all nodes: members, events, cursors", async (cluster) => {
    const all = Array.from({ length: 6 }, (_, index) => member(cluster, "library", `v1-${index}`));
    await everybody(all);
    assert.equal(new Set(all.map((one) => one.client.status.node)).size, 3, "spread over three nodes");
    assert.ok(all.every((one) => one.client.status.transport === "websocket"));
    all.forEach((one, index) => assert.ok(one.room.events.send("said", index)));
    for (const one of all) await until("all events", () => one.events.length === 6);
    await until("all cursors", () => {
      all.forEach((one) => one.room.cursors.set(Math.random() * 100, 5));
      return all.every((one) => one.cursors.size === 5);
    });
    await close(all);
  }],

  ["the client library by SockJS", async (cluster) => {
    const all = Array.from({ length: 3 }, (_, index) => member(cluster, "fallback", `s-${index}`, ["sockjs"]));
    await everybody(all);
    all.forEach((one, index) => assert.ok(one.room.events.send("said", index)));
    for (const one of all) await until("all events", () => one.events.length === 3);
    await close(all);
  }],

  ...["xhr-streaming", "xhr-polling"].map((transport) => [`sockjs-client by ${transport}, requests to any node`, async (cluster) => {
    const before = await carried(cluster);
    const all = Array.from({ length: 6 }, () => sockjs(cluster, transport));
    await Promise.all(all.map((one) => one.opened));
    for (let round = 0; round < 10; round++) {
      all.forEach((one, index) => one.say(`${transport} ${index} ${round}`));
      await sleep(100);
    }
    for (const one of all) {
      const texts = () => one.got.map((message) => message.text).filter((text) => text?.startsWith(transport));
      await until("everything was heard", () => texts().length >= 60);
      assert.equal(new Set(texts()).size, 60, "everything once");
      assert.equal(one.got.filter((message) => message.text?.startsWith(transport)).length, 60, "nothing twice");
      assert.equal(one.over, null, `closed: ${one.over?.code} ${one.over?.reason}`);
    }
    for (const one of all) one.socket.close();
    const requests = await carried(cluster) - before;
    assert.ok(requests > 0, "some requests came to another node than the session's");
    return `${requests} requests were carried from node to node`;
  }]),

  ["what is streamed arrives at once", async (cluster) => {
    const [page] = await pages(`${cluster.origin.replace("https", "wss")}/ws`, 1);
    const ages = [];
    const ways = [["POST", "xhr_streaming", stream], ["GET", "eventsource", stream], ["GET", "htmlfile?c=x", stream], ["POST", "xhr_streaming", stream2]];
    let h2 = "no HTTP/2";
    for (const [method, name, open] of ways) {
      const one = await open(cluster, `/ws/000/${id()}/${name}`, method);
      if (!one) continue;
      if (open === stream2) h2 = "HTTP/2 too";
      await until(`${name} begins`, () => /(^|["\s>])o["\s\\]/.test(one.text.slice(-40)) || one.text.includes("data: o"));
      for (let n = 0; n < 10; n++) {
        const text = id();
        await sleep(60);
        const from = performance.now();
        page.say(text);
        await until(`${name} passes a frame on`, () => one.text.includes(text), 3000);
        ages.push(performance.now() - from);
      }
      one.vanish();
    }
    page.socket.close();
    ages.sort((a, b) => a - b);
    // `until` looks every 20 ms, a busy room's tick is 16 ms.
    assert.ok(ages.at(-1) < 500, `the slowest took ${ages.at(-1)} ms`);
    return `median ${Math.round(ages[ages.length / 2])} ms, slowest ${Math.round(ages.at(-1))} ms, ${h2}`;
  }],

  ["a WebSocket over HTTP/2, where it is offered", async (cluster) => {
    const session = http2.connect(cluster.origin);
    const settings = await new Promise((done) => {
      session.once("error", () => done({}));
      session.once("remoteSettings", done);
    });
    if (!settings.enableConnectProtocol) {
      session.destroy();
      return "not offered: browsers use HTTP/1.1 for it";
    }
    const request = session.request({ ":method": "CONNECT", ":protocol": "websocket", ":path": "/ws?room=h2", ":scheme": "https",
      ":authority": new URL(cluster.origin).host, "sec-websocket-version": "13" });
    let bytes = Buffer.alloc(0);
    request.on("data", (piece) => { bytes = Buffer.concat([bytes, piece]); });
    const headers = await new Promise((done, failed) => { request.once("response", done); request.once("error", failed); });
    assert.equal(headers[":status"], 200);
    const body = Buffer.from('{"x":1,"y":2,"text":"by h2"}');
    request.write(Buffer.concat([Buffer.from([0x81, 0x80 | body.length, 0, 0, 0, 0]), body]));
    await until("the own message is back", () => bytes.includes("by h2"));
    session.destroy();
    return "offered, and works";
  }],

  ["a SockJS client that vanishes is gone", async (cluster) => {
    const found = [];
    for (const open of [stream, stream2]) {
      for (const name of ["xhr_streaming", "xhr"]) {
        const room = `vanish-${id()}`;
        const one = await open(cluster, `/ws/000/${id()}/${name}?room=${room}`, "POST");
        if (!one) continue;
        await until("it is there", async () => (await cluster.members(cluster.nodes[0], room)).length === 1);
        const from = performance.now();
        one.vanish();
        await until("it is gone", async () => (await cluster.members(cluster.nodes[0], room)).length === 0, 20_000);
        found.push(`${((performance.now() - from) / 1000).toFixed(1)} s`);
      }
    }
    return `after ${found.join(", ")}`;
  }],

  ["a node stops in order: clients come back by the same address", async (cluster) => {
    const url = `${cluster.origin.replace("https", "wss")}/ws?room=stop`;
    const plain = await pages(url, 6);
    const all = Array.from({ length: 6 }, (_, index) => member(cluster, "stopping", `v1-${index}`));
    const by = Array.from({ length: 3 }, () => sockjs(cluster, "xhr-streaming"));
    await Promise.all(by.map((one) => one.opened));
    await everybody(all);
    const node = cluster.nodes[0];
    const here = all.filter((one) => one.client.status.node === node.name);
    assert.ok(here.length > 0);
    assert.equal(await node.process.end("SIGTERM"), 0);
    await back(cluster, all, here, node);
    const codes = plain.filter((page) => page.code).map((page) => page.code);
    assert.ok(codes.length > 0 && codes.every((code) => code === 1012), `close codes ${codes}`);
    await noErrors(cluster);
    await close(all);
    for (const page of plain) page.socket.close();
    for (const one of by) {
      assert.ok(one.over === null || one.over.code === 1012, `sockjs-client: ${one.over?.code} ${one.over?.reason}`);
      one.socket.close();
    }
    cluster.start(node);
    await cluster.ready();
    return `${here.length} of 6 were on it; ${[...new Set(here.flatMap((one) => one.resumed))]}`;
  }],

  ["a node is killed: clients come back by the same address", async (cluster) => {
    // The proxy may still leave alone the node that was just started.
    await sleep(3000);
    const url = `${cluster.origin.replace("https", "wss")}/ws?room=kill`;
    const plain = await pages(url, 6);
    const all = Array.from({ length: 6 }, (_, index) => member(cluster, "killing", `v1-${index}`));
    const by = Array.from({ length: 3 }, () => sockjs(cluster, "xhr-polling"));
    await Promise.all(by.map((one) => one.opened));
    await everybody(all);
    const node = cluster.nodes[1];
    const here = all.filter((one) => one.client.status.node === node.name);
    assert.ok(here.length > 0);
    const from = performance.now();
    await node.process.end("SIGKILL");
    await noErrors(cluster);
    await back(cluster, all, here, node);
    const took = performance.now() - from;
    assert.ok(plain.some((page) => page.code) && plain.some((page) => !page.code), "those of the dead node, and only they, were closed");
    const again = await pages(url, 6);
    again[0].say("again");
    for (const page of again) await until("the new ones are heard", () => page.got.some((one) => one.text === "again"));
    await close(all);
    for (const page of [...plain, ...again]) page.socket.close();
    for (const one of by) one.socket.close();
    cluster.start(node);
    await cluster.ready();
    return `${here.length} of 6 were on it, all back after ${(took / 1000).toFixed(1)} s; ${[...new Set(here.flatMap((one) => one.resumed))]}`;
  }],
];

async function everybody(all) {
  await until("everyone sees everyone", () => all.every((one) => one.room.joined && one.room.others.length === all.length - 1), 20_000);
}

async function back(cluster, all, here, node) {
  await until("those of the node are on others", () => here.every((one) =>
    one.room.joined && one.client.status.state === "connected" && one.client.status.node !== node.name), 20_000);
  await everybody(all);
  assert.ok(here.every((one) => one.resumed.length > 0), "each knows that it was away");
  assert.ok(here.every((one) => one.resumed.every((how) => how === "recovered")), `as the same member: ${here.map((one) => one.resumed)}`);
  assert.equal(all.flatMap((one) => one.left).length, 0, "nobody was seen to leave");
}

async function close(all) {
  for (const one of all) one.client.close();
}

/** Requests with one node away: nobody who comes now notices. */
async function noErrors(cluster) {
  for (let n = 0; n < 30; n++) {
    assert.equal((await status(`${cluster.origin}/`)).status, 200);
    const sent = await status(`${cluster.origin}/ws/000/${id()}/xhr`, { method: "POST" });
    assert.equal(sent.status, 200, "a new session");
  }
  for (const page of await pages(`${cluster.origin.replace("https", "wss")}/ws?room=new`, 6)) page.socket.close();
}

const carried = async (cluster) => (await Promise.all(cluster.nodes.map((node) =>
  cluster.metric(node, "cursormesh_sockjs_requests_total", "carried")))).reduce((a, b) => a + b);

/** Opens connections that then say nothing; the result looks whether they last. */
async function idle(cluster) {
  const [page] = await pages(`${cluster.origin.replace("https", "wss")}/ws?room=idle`, 1);
  const one = stream(cluster, `/ws/000/${id()}/xhr_streaming?room=idle`, "POST");
  const polling = id();
  let polls = 0, bad = 0, go = true;
  const poll = async () => {
    while (go) {
      const answer = await fetch(`${cluster.origin}/ws/000/${polling}/xhr?room=idle`, { method: "POST" }).catch(() => null);
      const text = await answer?.text();
      if (!go) return;
      if (answer?.status !== 200 || text?.startsWith("c")) bad += 1;
      polls += 1;
      if (text?.startsWith("c") || !answer) await sleep(200);
    }
  };
  poll();
  const from = performance.now();
  return async () => {
    await sleep(Math.max(0, idleMs - (performance.now() - from)));
    go = false;
    const beats = one.text.split("\n").filter((line) => line === "h").length;
    const state = `${beats} heartbeats, ${polls} polls, ${bad} bad ones, after ${Math.round((performance.now() - from) / 1000)} s`;
    assert.equal(page.code, undefined, "the WebSocket lasts");
    assert.equal(one.closed, false, "the streamed answer lasts");
    assert.equal(bad, 0, state);
    assert.ok(idleMs < 26_000 || beats > 0, state);
    page.socket.close();
    one.vanish();
    return state;
  };
}

/** Nodes that take a POST and die of it, and one that is not there: how often is the POST sent? */
async function neverTwice(kind) {
  const cluster = await Cluster.make(`${kind}-post`);
  const counts = { POST: 0, GET: 0 };
  const servers = await Promise.all([1, 2, 3].map(async () => {
    const server = createServer((request, answer) => {
      if (request.url !== "/die") return answer.end("ok");
      counts[request.method] += 1;
      request.resume();
      request.on("end", () => request.socket.destroy());
    });
    await new Promise((done) => server.listen(0, "127.0.0.1", done));
    return server;
  }));
  try {
    await cluster.startProxy(kind, servers.map((server) => server.address().port));
    const codes = [];
    for (let n = 1; n <= 5; n++) {
      const answer = await status(`${cluster.origin}/die`, { method: "POST", body: "x" }).catch(() => ({ status: "broken off" }));
      codes.push(answer.status);
      assert.equal(counts.POST, n, `POST ${n} was sent ${counts.POST} times in all`);
      // What refused is left alone for 2 s.
      await sleep(2500);
    }
    assert.ok(codes.every((code) => code === 502 || code === "broken off"), `answers ${codes}`);
    return `answers ${[...new Set(codes)]}`;
  } finally {
    await cluster.stop();
    for (const server of servers) { server.closeAllConnections(); server.close(); }
  }
}

// ---- running it -----------------------------------------------------------------------------------

let failed = 0;

async function check(kind, what, run) {
  if (!what.includes(values.only)) return;
  const from = performance.now();
  const seconds = () => `${((performance.now() - from) / 1000).toFixed(1)} s`;
  try {
    const more = await run();
    console.log(`ok      ${kind}: ${what}${more ? ` (${more})` : ""}, ${seconds()}`);
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${kind}: ${what}, ${seconds()}\n${String(error.stack ?? error).replace(/^/gm, "        ")}`);
  }
}

process.on("exit", endAll);
for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"]) process.on(signal, () => process.exit(1));

for (const kind of kinds) {
  if (spawnSync(kind, [kind === "nginx" || kind === "haproxy" ? "-v" : "version"]).error) {
    failed += 1;
    console.log(`FAILED  ${kind}: not installed`);
    continue;
  }
  const cluster = await Cluster.make(kind);
  try {
    await cluster.startAll();
    await cluster.startProxy(kind, cluster.nodes.map((node) => node.web));
  } catch (error) {
    failed += 1;
    console.log(`FAILED  ${kind}: does not start: ${error.message}`);
    await cluster.stop();
    continue;
  }
  const before = failed;
  // Not on a node that is stopped or killed below.
  const lasts = await idle(cluster);
  const last = checks.findIndex(([what]) => what.startsWith("a node stops"));
  for (const [what, run] of checks.slice(0, last)) await check(kind, what, () => run(cluster));
  await check(kind, "silent connections last", lasts);
  for (const [what, run] of checks.slice(last)) await check(kind, what, () => run(cluster));
  await cluster.stop();
  await check(kind, "a POST that was sent is never sent again", () => neverTwice(kind));
  if (failed > before) console.log(`        the proxy's log ends with:\n${cluster.log().replace(/^/gm, "        ")}`);
}
console.log(failed ? `${failed} failed` : "all held");
process.exit(failed ? 1 : 0);
