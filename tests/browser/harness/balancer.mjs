// What stands in front of the nodes: a load balancer that knows nothing of sessions.

import { once } from "node:events";
import http from "node:http";
import net from "node:net";

/** Headers that concern one connection, not the request or the answer. */
const HOP_BY_HOP = ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade"];

/** Gives each request, also those of one connection, and each upgrade to the next node. `lies` are for Liar. */
export class Balancer {
  #server;
  #ports;
  #turn = 0;
  #pairs = new Set();
  /** How many requests and upgrades were answered, by the last part of their path and by the node's port. */
  taken = {};

  constructor(ports, lies = {}) {
    this.#ports = ports;
    this.lies = lies;
    this.#server = http.createServer((request, response) => this.#pass(request, response).catch(() => response.destroy()));
    if (this.passesUpgrades) this.#server.on("upgrade", (request, near, head) => this.#tunnel(request, near, head));
  }

  /** A balancer in front of `ports` that ends with the test `t`. */
  static async open(t, ports, lies) {
    const balancer = new this(ports, lies);
    balancer.#server.listen(0, "127.0.0.1");
    await once(balancer.#server, "listening");
    t.after(() => balancer.close());
    return balancer;
  }

  get server() {
    return this.#server;
  }

  get port() {
    return this.#server.address().port;
  }

  url(path = "/") {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  close() {
    this.#server.closeAllConnections();
    this.#server.close();
    for (const socket of this.#pairs) socket.destroy();
  }

  /** Whether upgrades go through. What does not is an ordinary request. */
  get passesUpgrades() {
    return true;
  }

  /** Gives a node's answer to whoever asked. */
  answer(request, answer, response) {
    response.writeHead(answer.statusCode, plain(answer.headers));
    response.flushHeaders();
    answer.pipe(response);
  }

  /** Both ends of an upgraded connection. */
  tunneled(near, far) {
    near.pipe(far).pipe(near);
  }

  /** All nodes, the one whose turn it is first. */
  #order() {
    const first = this.#turn++ % this.#ports.length;
    return [...this.#ports.slice(first), ...this.#ports.slice(0, first)];
  }

  #note(request, port) {
    const what = new URL(request.url, "http://localhost").pathname.split("/").at(-1);
    const taken = (this.taken[what] ??= {});
    taken[port] = (taken[port] ?? 0) + 1;
  }

  async #pass(request, response) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = Buffer.concat(parts);
    for (const port of this.#order()) {
      const onward = http.request({
        host: "127.0.0.1", port, agent: false,
        method: request.method, path: request.url,
        headers: { ...plain(request.headers), "content-length": body.length },
      });
      response.on("close", () => onward.destroy());
      onward.end(body);
      let answer;
      try {
        [answer] = await once(onward, "response");
      } catch (error) {
        // Nobody is there: the next one gets it. What somebody may have taken is not said twice.
        if (error.code === "ECONNREFUSED") continue;
        throw error;
      }
      this.#note(request, port);
      onward.on("error", () => response.destroy());
      answer.on("aborted", () => response.destroy());
      this.answer(request, answer, response);
      return;
    }
    response.writeHead(502).end();
  }

  async #tunnel(request, near, head) {
    this.#pairs.add(near);
    near.on("close", () => this.#pairs.delete(near));
    near.on("error", () => {});
    for (const port of this.#order()) {
      const far = net.connect({ port, host: "127.0.0.1", noDelay: true });
      try {
        await once(far, "connect");
      } catch {
        continue;
      }
      this.#note(request, port);
      far.on("error", () => {});
      far.on("close", () => near.destroy());
      near.on("close", () => far.destroy());
      const headers = request.rawHeaders.reduce((lines, part, index) => lines + part + (index % 2 ? "\r\n" : ": "), "");
      far.write(`${request.method} ${request.url} HTTP/1.1\r\n${headers}\r\n`);
      far.write(head);
      this.tunneled(near, far);
      return;
    }
    near.destroy();
  }
}

/** A balancer whose clients do not learn that an address may name a node. */
export class PlainBalancer extends Balancer {
  answer(request, answer, response) {
    if (!request.url.includes("/info")) return super.answer(request, answer, response);
    whole(answer, (body) => {
      const info = JSON.parse(body);
      delete info.base_url;
      const text = JSON.stringify(info);
      response.writeHead(answer.statusCode, { ...plain(answer.headers), "content-length": Buffer.byteLength(text) });
      response.end(text);
    });
  }
}

/** Headers without those of one connection. */
export function plain(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP_BY_HOP.includes(name)));
}

/** Calls `fn` with the body of an answer once that is whole. */
export function whole(answer, fn) {
  const parts = [];
  answer.on("data", (part) => parts.push(part));
  answer.on("end", () => fn(Buffer.concat(parts)));
}
