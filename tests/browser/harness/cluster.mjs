// Three real nodes on free loopback ports, each the real binary with the configuration file a user
// would write.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import dgram from "node:dgram";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { eventually } from "./eventually.mjs";
import { Link } from "./link.mjs";

const REPOSITORY = fileURLToPath(new URL("../../../", import.meta.url));
const BINARY = path.resolve(process.env.CURSORMESH_BIN ?? path.join(REPOSITORY, "target/debug/cursormesh"));
const LOG_LINES_SHOWN = 25;

/** Processes that must not outlive the tests, whatever happens to them. */
const running = new Set();
process.on("exit", () => {
  for (const child of running) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"]) process.once(signal, () => process.exit(1));

/**
 * Runs `scenario` against a started cluster; a failure comes with the end of every node's log. `web`
 * holds keys of the configuration's table of that name; with `links` there is a wire to each node that
 * can be pulled out, and the cluster tells clients to come that way. `regions` says where nodes are;
 * `args` are more of every node's command line.
 */
export async function withCluster(scenario, { web = {}, links = false, regions = {}, args = [] } = {}) {
  const cluster = await Cluster.prepare(["n1", "n2", "n3"], web, links, regions, args);
  try {
    await Promise.all(cluster.names.map((name) => cluster.start(name)));
    await cluster.whole();
    await scenario(cluster);
  } catch (error) {
    console.error(cluster.logs());
    throw error;
  } finally {
    await cluster.stop();
  }
}

/** Runs `scenario` against a node of its own, without any file; `args` are more of its command line. */
export async function withNode(scenario, args = []) {
  const [{ web: port }] = await freePorts(1, false);
  const node = new LoneNode(port, args);
  try {
    await node.start();
    await scenario(node);
  } catch (error) {
    console.error(node.logs());
    throw error;
  } finally {
    await node.stop();
  }
}

/** Starts the binary. */
function launch(args, logged) {
  const log = openSync(logged, "a");
  const child = spawn(BINARY, args, {
    stdio: ["ignore", log, log],
    env: { PATH: process.env.PATH, RUST_BACKTRACE: "1" },
  });
  closeSync(log);
  running.add(child);
  child.once("error", () => running.delete(child));
  child.once("exit", () => running.delete(child));
  return child;
}

/** Waits until a node takes clients. */
async function ready(name, child, url) {
  await eventually(`${name} is ready`, async () => {
    assert.equal(child.exitCode, null, `${name} ended with code ${child.exitCode}`);
    return (await fetch(url)).ok;
  });
}

/** Ends a node as a power cut would: no goodbye. */
async function kill(child) {
  const ended = once(child, "exit");
  child.kill("SIGKILL");
  await ended;
}

/** The end of a node's log. */
function lastLines(name, log) {
  const lines = existsSync(log) ? readFileSync(log, "utf8").trimEnd().split("\n") : [];
  return `--- ${name}, last lines of its log\n${lines.slice(-LOG_LINES_SHOWN).join("\n")}`;
}

/** What `cursormesh dev` starts. */
class LoneNode {
  #folder = mkdtempSync(path.join(os.tmpdir(), "cursormesh-browser-"));
  #args;
  #child = null;

  constructor(port, args) {
    this.port = port;
    this.#args = ["dev", "--web", `127.0.0.1:${port}`, ...args];
  }

  get #log() {
    return path.join(this.#folder, "node.log");
  }

  url(path = "/") {
    return `http://127.0.0.1:${this.port}${path}`;
  }

  async start() {
    this.#child = launch(this.#args, this.#log);
    await ready("the node", this.#child, this.url("/readyz"));
  }

  async kill() {
    await kill(this.#child);
  }

  logs() {
    return lastLines("the node", this.#log);
  }

  async stop() {
    if (running.has(this.#child)) await this.kill();
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

class Cluster {
  #folder;
  #args;
  #nodes = new Map();

  /** Chooses ports and writes the configuration; starts nothing. */
  static async prepare(names, settings, links, regions, args) {
    assert.ok(existsSync(BINARY), `${BINARY} is missing: run \`cargo build --workspace\`, or name another in CURSORMESH_BIN`);
    const cluster = new Cluster();
    cluster.#args = args;
    cluster.#folder = mkdtempSync(path.join(os.tmpdir(), "cursormesh-browser-"));
    let config = 'cluster = "browser-tests"\n\n[web]\n';
    for (const [key, value] of Object.entries(settings)) config += `${key} = ${value}\n`;
    const ports = await freePorts(names.length, links);
    for (const [index, name] of names.entries()) {
      const { web, mesh, link } = ports[index];
      cluster.#nodes.set(name, { web, link, log: path.join(cluster.#folder, `${name}.log`), child: null });
      config += `\n[[node]]\nname = "${name}"\nweb = "127.0.0.1:${web}"\nmesh = "127.0.0.1:${mesh}"\n`;
      if (regions[name]) config += `region = "${regions[name]}"\n`;
      if (link) config += `url = "ws://127.0.0.1:${link.port}/v1"\n`;
    }
    writeFileSync(cluster.#config, config);
    return cluster;
  }

  get names() {
    return [...this.#nodes.keys()];
  }

  get #config() {
    return path.join(this.#folder, "cluster.toml");
  }

  /** The TCP port on which a node serves browsers. */
  port(name) {
    return this.#nodes.get(name).web;
  }

  /** The wire to a node. */
  link(name) {
    return this.#nodes.get(name).link;
  }

  /** The address of a path on a node. */
  url(name, path = "/") {
    return `http://127.0.0.1:${this.port(name)}${path}`;
  }

  /** Starts a node and waits until it takes clients. */
  async start(name) {
    const node = this.#nodes.get(name);
    node.child = launch(["serve", "--config", this.#config, "--node", name, ...this.#args], node.log);
    await ready(name, node.child, this.url(name, "/readyz"));
  }

  /** Ends a node as a power cut would: no goodbye. */
  async kill(name) {
    await kill(this.#nodes.get(name).child);
  }

  /** Asks a node to stop, as an operator would, and returns its exit code. */
  async terminate(name) {
    const { child } = this.#nodes.get(name);
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    return (await ended)[0];
  }

  /** Waits until every node has a link to every other and shows its members. */
  async whole() {
    for (const name of this.names) {
      await eventually(`${name} is linked with all others`, async () => {
        const { peers } = await this.ask(name, "/api/cluster");
        const up = peers.filter((peer) => peer.alive && peer.linked && peer.visible).map((peer) => peer.node);
        assert.deepEqual(up.sort(), this.names.filter((other) => other !== name));
        return true;
      }, { within_ms: 15_000 });
    }
  }

  /** A node's JSON answer. */
  async ask(name, path) {
    const response = await fetch(this.url(name, path), { signal: AbortSignal.timeout(5000) });
    assert.ok(response.ok, `${path} on ${name}: ${response.status}`);
    return response.json();
  }

  /** The end of every node's log. */
  logs() {
    return [...this.#nodes].map(([name, { log }]) => lastLines(name, log)).join("\n");
  }

  /** Ends all nodes and removes their files. */
  async stop() {
    await Promise.all(this.names.filter((name) => running.has(this.#nodes.get(name).child)).map((name) => this.kill(name)));
    await Promise.all(this.names.map((name) => this.link(name)?.close()));
    rmSync(this.#folder, { recursive: true, force: true });
  }
}

/**
 * Ports that nobody has, and links to them if they are wanted: all are held until the last one is found,
 * so that no two are the same.
 */
async function freePorts(count, links) {
  const held = await Promise.all(Array.from({ length: count }, async () => {
    const web = net.createServer().listen(0, "127.0.0.1");
    const mesh = dgram.createSocket("udp4").bind(0, "127.0.0.1");
    await Promise.all([web, mesh].map((socket) => once(socket, "listening")));
    return { web, mesh };
  }));
  const ports = await Promise.all(held.map(async ({ web, mesh }) =>
    ({ web: web.address().port, mesh: mesh.address().port, link: links ? await Link.open(web.address().port) : null })));
  await Promise.all(held.flatMap(({ web, mesh }) => [web, mesh]).map((socket) => {
    socket.close();
    return once(socket, "close");
  }));
  return ports;
}
