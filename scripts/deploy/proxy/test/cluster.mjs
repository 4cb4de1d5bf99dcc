// Three nodes and a proxy, as processes of this test alone.
import { spawn } from "node:child_process";
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { createSocket } from "node:dgram";
import { fileURLToPath } from "node:url";
import { join } from "node:path";

const shipped = fileURLToPath(new URL("..", import.meta.url));
const { WORK, CURSORMESH_BIN } = process.env;
const running = new Set();

export const sleep = (ms) => new Promise((done) => setTimeout(done, ms));

/** Waits until `look` gives something true; says what was waited for if that takes too long. */
export async function until(what, look, ms = 10_000) {
  const end = performance.now() + ms;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (performance.now() > end) throw new Error(`not within ${ms} ms: ${what}`);
    await sleep(20);
  }
}

/** A port that was free a moment ago. */
async function freePort(udp = false) {
  return await new Promise((done, failed) => {
    const socket = udp ? createSocket("udp4") : createServer();
    const bound = () => {
      const { port } = socket.address();
      socket.close(() => done(port));
    };
    socket.once("error", failed);
    if (udp) socket.bind(0, "127.0.0.1", bound);
    else socket.listen(0, "127.0.0.1", bound);
  });
}

class Process {
  constructor(name, command, args, log) {
    const out = openSync(log, "a");
    this.name = name;
    this.child = spawn(command, args, { stdio: ["ignore", out, out] });
    closeSync(out);
    this.gone = new Promise((done) => this.child.once("exit", (code, signal) => {
      running.delete(this);
      this.over = true;
      done(code ?? signal);
    }));
    this.child.once("error", () => {});
    running.add(this);
  }

  /** Ends it with this signal; what does not end by that is killed. */
  async end(signal) {
    if (!this.over) this.child.kill(signal);
    const late = setTimeout(() => this.child.kill("SIGKILL"), 6000);
    const code = await this.gone;
    clearTimeout(late);
    return code;
  }
}

/** Ends what is left, at once. */
export function endAll() {
  for (const process of running) process.child.kill("SIGKILL");
}

export class Cluster {
  /** Ports for three nodes and the proxy in front. */
  static async make(label) {
    const cluster = new Cluster();
    cluster.dir = join(WORK, label);
    mkdirSync(cluster.dir);
    cluster.front = await freePort();
    cluster.origin = `https://localhost:${cluster.front}`;
    cluster.nodes = [];
    let file = 'cluster = "proxies"\n';
    for (const name of ["n1", "n2", "n3"]) {
      const node = { name, web: await freePort(), mesh: await freePort(true) };
      cluster.nodes.push(node);
      // Clients that change nodes come through the proxy again.
      file += `[[node]]\nname = "${name}"\nweb = "127.0.0.1:${node.web}"\nmesh = "127.0.0.1:${node.mesh}"\n`
        + `url = "wss://localhost:${cluster.front}/v1"\n`;
    }
    cluster.file = join(cluster.dir, "cluster.toml");
    writeFileSync(cluster.file, file);
    return cluster;
  }

  start(node) {
    const log = join(this.dir, `${node.name}.log`);
    node.process = new Process(node.name, CURSORMESH_BIN, ["serve", "--config", this.file, "--node", node.name], log);
  }

  async startAll() {
    for (const node of this.nodes) this.start(node);
    await this.ready();
  }

  async ready() {
    for (const node of this.nodes) {
      await until(`${node.name} has links to the others`, async () => {
        if (node.process.over) throw new Error(`${node.name} ended: ${readFileSync(join(this.dir, `${node.name}.log`))}`);
        const state = await get(node.web, "/api/cluster").catch(() => null);
        return state && state.peers.filter((peer) => peer.linked).length === 2;
      });
    }
  }

  /** A number from a node's metrics, all labels together unless `label` is in them. */
  async metric(node, name, label = "") {
    const text = await (await fetch(`http://127.0.0.1:${node.web}/metrics`)).text();
    return text.split("\n")
      .filter((line) => line.startsWith(name) && line.includes(label))
      .reduce((sum, line) => sum + Number(line.split(" ").at(-1)), 0);
  }

  async members(node, room) {
    return (await get(node.web, `/api/rooms/${room}/members`)).members;
  }

  /** Starts the proxy with its shipped configuration, in front of these TCP ports. */
  async startProxy(kind, ports) {
    const plain = await freePort();
    const config = { nginx: "nginx.conf", haproxy: "haproxy.cfg", caddy: "Caddyfile" }[kind];
    let text = readFileSync(join(shipped, config), "utf8");
    const replace = (what, by) => {
      const next = text.replaceAll(what, by);
      if (next === text) throw new Error(`${config} has no ${what} that could be replaced`);
      text = next;
    };
    ports.forEach((port, index) => replace(`10.0.0.${index + 1}:7071`, `127.0.0.1:${port}`));
    const root = process.getuid() === 0;
    if (kind === "nginx") {
      replace("listen 80;", `listen 127.0.0.1:${plain};`);
      replace("listen 443 ", `listen 127.0.0.1:${this.front} `);
      replace("/etc/cursormesh/", `${WORK}/`);
      replace("/run/nginx.pid", `${this.dir}/nginx.pid`);
      replace("/var/log/nginx/error.log", `${this.dir}/proxy.log`);
      // 20,000 connections for every worker are more than a test's machine may allow.
      replace("worker_processes auto;", "worker_processes 2;");
      if (!root) replace("user www-data;", "");
      const paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
      replace("access_log off;", `access_log off; ${paths.map((path) => `${path}_temp_path ${this.dir}/${path};`).join(" ")}`);
    }
    if (kind === "haproxy") {
      replace("bind :80", `bind 127.0.0.1:${plain}`);
      replace("bind :443 ", `bind 127.0.0.1:${this.front} `);
      replace("/etc/cursormesh/", `${WORK}/`);
      // Two descriptors for each of 20,000 are more than a test's machine may allow.
      replace("maxconn 20000", "maxconn 2000");
      if (!root) replace(/\n    (user|group) haproxy/g, "");
    }
    if (kind === "caddy") {
      replace("cursors.example.org {", `https://localhost:${this.front} {\n\tbind 127.0.0.1\n\ttls ${WORK}/web.pem ${WORK}/web.key`);
      replace("grace_period 10s", `grace_period 1s\n\tadmin off\n\tauto_https disable_redirects\n\tstorage file_system ${this.dir}/caddy`);
    }
    const file = join(this.dir, config);
    writeFileSync(file, text);
    const args = {
      nginx: ["-e", `${this.dir}/proxy.log`, "-p", this.dir, "-c", file, "-g", "daemon off;"],
      haproxy: ["-db", "-f", file],
      caddy: ["run", "--adapter", "caddyfile", "--config", file],
    }[kind];
    this.proxy = new Process(kind, kind, args, join(this.dir, "proxy.log"));
    this.plain = kind === "caddy" ? null : plain;
    await until(`${kind} answers`, async () => {
      if (this.proxy.over) throw new Error(`${kind} ended: ${readFileSync(join(this.dir, "proxy.log"))}`);
      return await fetch(`${this.origin}/`).then((answer) => answer.ok, () => false);
    });
  }

  async stop() {
    await this.proxy?.end("SIGTERM");
    for (const node of this.nodes) await node.process?.end("SIGTERM");
  }

  /** The end of the proxy's log, for a failure. */
  log() {
    return readFileSync(join(this.dir, "proxy.log"), "utf8").split("\n").slice(-12).join("\n");
  }
}

async function get(port, path) {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`);
  return await answer.json();
}
