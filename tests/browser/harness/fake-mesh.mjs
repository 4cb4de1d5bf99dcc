// Nodes that only say what nodes say: the dashboard's files, /api/mesh and /api/dev on loopback, for a
// mesh that a test describes. No QUIC, no members; what happens is what the test sets.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import http from "node:http";
import path from "node:path";
import { fileURLToPath } from "node:url";

const DASHBOARD = fileURLToPath(new URL("../../../web/dashboard/", import.meta.url));
const TYPES = { ".html": "text/html", ".css": "text/css", ".mjs": "text/javascript", ".svg": "image/svg+xml" };

const pair = (a, b) => [a, b].sort().join("|");

export class FakeMesh {
  #nodes = new Map();
  #began_at = Date.now();
  /** Every order that came: "n1 cut n3". */
  orders = [];

  /** Started nodes [{name, region, members, rooms}] that end with the test `t`. */
  static async open(t, nodes, { dev = true } = {}) {
    const mesh = new FakeMesh();
    mesh.dev = dev;
    for (const node of nodes) {
      const server = http.createServer((request, response) => mesh.#answer(node.name, request, response).catch(() => response.destroy()));
      server.listen(0, "127.0.0.1");
      await once(server, "listening");
      mesh.#nodes.set(node.name, {
        region: "", members: 0, rooms: 0, ...node, server, state: "alive", hidden_because: null, mute: false, boot: 1, cuts: new Set(),
      });
    }
    t.after(() => mesh.close());
    return mesh;
  }

  close() {
    for (const { server } of this.#nodes.values()) {
      server.closeAllConnections();
      server.close();
    }
  }

  url(name, at = "/dashboard") {
    return `http://127.0.0.1:${this.#nodes.get(name).server.address().port}${at}`;
  }

  /** A node as the mesh has it; what a test changes here is told from then on. */
  node(name) {
    return this.#nodes.get(name);
  }

  cut(from, to) {
    this.#nodes.get(from).cuts.add(to);
  }

  heal(from, to) {
    this.#nodes.get(from).cuts.delete(to);
  }

  #up(a, b) {
    const [one, other] = [this.#nodes.get(a), this.#nodes.get(b)];
    return a !== b && one.state !== "down" && other.state !== "down" && !one.cuts.has(b) && !other.cuts.has(a);
  }

  #view(name) {
    const self = this.#nodes.get(name);
    const names = [...this.#nodes.keys()];
    return {
      node: name, cluster: "fake", region: self.region, version: "0.1.0", dev: this.dev,
      nodes: names.filter((other) => this.#nodes.get(other).state !== "gone").map((other) => this.#entry(name, other)),
      links: names.flatMap((from) => names.filter((to) => this.#up(from, to) && (from === name || this.#up(name, from) || from < to))
        .map((to) => this.#link(name, from, to))),
      rooms: this.#rooms(),
      ...(this.dev ? { cuts: [...self.cuts] } : {}),
    };
  }

  #entry(viewer, name) {
    const node = this.#nodes.get(name);
    const self = viewer === name;
    const direct = self || this.#up(viewer, name);
    const relay = direct || node.state === "down" ? null : [...this.#nodes.keys()].find((by) => this.#up(viewer, by) && this.#up(by, name)) ?? null;
    const hidden = self ? null : node.hidden_because;
    return {
      node: name, region: node.region, self, state: self ? "alive" : node.state,
      visible: !hidden && node.state !== "down", hidden_because: hidden, relay,
      members: node.members, rooms: node.rooms, boot: String(node.boot),
      url: `ws://127.0.0.1:${node.server.address().port}/v1`, evidence_age_ms: self ? null : 40 + 10 * name.length,
    };
  }

  #link(viewer, from, to) {
    const near = this.#nodes.get(from).region === this.#nodes.get(to).region;
    const seed = [...pair(from, to)].reduce((sum, letter) => (sum * 31 + letter.codePointAt(0)) % 997, 7);
    const own = viewer === from;
    const bytes = Math.round(((Date.now() - this.#began_at) / 1000) * (near ? 400 : 40) * (seed % 90 + 4));
    return {
      from, to, rtt_ms: near ? 0.3 + seed / 2000 : 12 + seed / 7, loss: own ? (near ? 0 : (seed % 17) / 1000) : null,
      sent_bytes: own ? bytes : null, received_bytes: own ? Math.round(bytes * 0.7) : null,
    };
  }

  #rooms() {
    const members = [...this.#nodes.values()].filter(({ state }) => state !== "down").reduce((sum, node) => sum + node.members, 0);
    if (!members) return { count: 0, members: 0, listed: [] };
    const lobby = Math.ceil(members * 0.7);
    return { count: 2, members, listed: [{ room: "lobby", count: lobby }, { room: "a/b & <i>c</i>", count: members - lobby }] };
  }

  async #answer(name, request, response) {
    const node = this.#nodes.get(name);
    const { pathname } = new URL(request.url, "http://localhost");
    if (node.mute) return;
    if (node.state === "down" || node.state === "gone") return request.socket.destroy();
    const cross = { "access-control-allow-origin": request.headers.origin ?? "*", vary: "origin" };
    if (request.method === "OPTIONS") {
      response.writeHead(204, { ...cross, "access-control-allow-methods": "POST", "access-control-allow-headers": "content-type, x-cursormesh-dev" }).end();
    } else if (pathname === "/api/mesh") {
      response.writeHead(200, { "content-type": "application/json", "cache-control": "no-store", ...(this.dev ? cross : {}) });
      response.end(JSON.stringify(this.#view(name)));
    } else if (pathname.startsWith("/api/dev/")) {
      response.writeHead(await this.#order(name, pathname.slice(9), request), cross).end();
    } else await this.#file(pathname, response);
  }

  async #order(name, action, request) {
    if (!this.dev || request.method !== "POST") return 404;
    if (request.headers["x-cursormesh-dev"] !== "1" || !request.headers["content-type"]?.includes("application/json")) return 400;
    const parts = [];
    for await (const part of request) parts.push(part);
    const { peer } = JSON.parse(Buffer.concat(parts).toString());
    this.orders.push([name, action, peer].filter(Boolean).join(" "));
    const node = this.#nodes.get(name);
    if (action === "cut") node.cuts.add(peer);
    else if (action === "heal") peer ? node.cuts.delete(peer) : node.cuts.clear();
    else if (action === "stop") setTimeout(() => { node.state = "down"; }, 20);
    return 204;
  }

  async #file(pathname, response) {
    const file = pathname === "/dashboard" ? "index.html" : pathname.match(/^\/dashboard\/([a-z.-]+)$/)?.[1];
    const body = file && await readFile(path.join(DASHBOARD, file)).catch(() => null);
    if (!body) return response.writeHead(404).end();
    response.writeHead(200, { "content-type": `${TYPES[path.extname(file)]}; charset=utf-8`, "x-content-type-options": "nosniff" }).end(body);
  }
}

/** n1 to nN, spread over these regions in turn, each with some members. */
export function nodes(count, regions = [""]) {
  return Array.from({ length: count }, (_, index) => ({
    name: `n${index + 1}`, region: regions[Math.floor((index * regions.length) / count)], members: (index * 7) % 5 + 1, rooms: 1 + (index % 2),
  }));
}
