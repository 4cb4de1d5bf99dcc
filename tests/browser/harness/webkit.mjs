// A real WebKit (WebKitGTK's MiniBrowser) under a virtual display, driven over plain W3C WebDriver.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import net from "node:net";
import os from "node:os";
import path from "node:path";
import { endings } from "./endings.mjs";
import { eventually } from "./eventually.mjs";

const BROWSERS = "/usr/lib";
/** For a session and for a page: a machine that does much else takes its time. */
const SLOW_MS_MAX = 90_000;
const COMMAND_MS_MAX = 20_000;
const EXIT_MS_MAX = 5_000;
/** Keys that write nothing, as W3C WebDriver codes them. */
const KEYS = { Escape: "\uE00C", Enter: "\uE007", Tab: "\uE004" };

/** Why there is no WebKit to drive; `null` where there is one. */
export async function webkitAbsent() {
  if (!found("WebKitWebDriver") || !miniBrowser()) return "webkit2gtk-driver is not installed: `apt-get install webkit2gtk-driver xvfb`";
  if (!found("Xvfb")) return "xvfb, the display for WebKit, is not installed: `apt-get install xvfb`";
  return null;
}

/** A WebKit that ends with the test `t`, and the one page in it. */
export async function openWebkit(t) {
  const home = mkdtempSync(path.join(os.tmpdir(), "cursormesh-webkit-"));
  const atEnd = endings(t);
  atEnd(() => rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 }));
  const display = await openDisplay(atEnd, home);
  const port = await freePort();
  // The bus is nobody's: without an address every start would look for one and wait.
  const env = { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home, TMPDIR: home, DISPLAY: display, NO_AT_BRIDGE: "1", LIBGL_ALWAYS_SOFTWARE: "1" };
  const driver = started(atEnd, found("WebKitWebDriver"), ["--host=127.0.0.1", `--port=${port}`], { env, stdio: "ignore" });
  const url = `http://127.0.0.1:${port}`;
  await eventually("the WebKit driver answers", async () => {
    assert.equal(driver.exitCode, null, "the WebKit driver ended");
    return (await ask(url, "GET", "/status", undefined, 2_000)).ready;
  }, { within_ms: 20_000 });
  const { sessionId, capabilities } = await ask(url, "POST", "/session", {
    capabilities: { alwaysMatch: { "webkitgtk:browserOptions": { binary: miniBrowser(), args: ["--automation"] } } },
  }, SLOW_MS_MAX);
  const page = new WebkitPage(`${url}/session/${sessionId}`, `${capabilities.browserName}/${capabilities.browserVersion}`);
  atEnd(() => page.command("DELETE", "", undefined, EXIT_MS_MAX));
  await page.command("POST", "/timeouts", { pageLoad: SLOW_MS_MAX, script: COMMAND_MS_MAX });
  await page.command("POST", "/window/rect", { x: 0, y: 0, width: 1000, height: 740 });
  return page;
}

/** A page, with as much of what other drivers' pages can do as the tests use. */
class WebkitPage {
  constructor(session, version) {
    this.session = session;
    this.version = version;
    this.mouse = {
      move: (x, y) => this.#act("pointer", "mouse", [{ type: "pointerMove", duration: 0, origin: "viewport", x: Math.round(x), y: Math.round(y) }]),
    };
    this.keyboard = {
      press: (key) => this.#strike([KEYS[key] ?? key]),
      type: (text) => this.#strike([...text]),
    };
  }

  command(method, path, body, within_ms = COMMAND_MS_MAX) {
    return ask(this.session, method, path, body, within_ms);
  }

  async goto(url) {
    await this.command("POST", "/url", { url }, SLOW_MS_MAX);
    // The driver tells of no errors: the page notes those that come once it is loaded.
    await this.evaluate(() => {
      window.wrong = [];
      addEventListener("error", ({ message }) => wrong.push(message));
      addEventListener("unhandledrejection", ({ reason }) => wrong.push(String(reason)));
      addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => wrong.push(`${violatedDirective}: ${blockedURI}`));
    });
  }

  async goBack() {
    await this.command("POST", "/back", {}, SLOW_MS_MAX);
  }

  /** What went wrong in the page since it was loaded. */
  get errors() {
    return this.evaluate(() => window.wrong);
  }

  /** What `fn` gives, or what its promise gives, in the page; text is evaluated. */
  evaluate(fn, argument) {
    const script = typeof fn === "string" ? `return (${fn});` : `return (${fn}).apply(null, arguments);`;
    return this.command("POST", "/execute/sync", { script, args: argument === undefined ? [] : [argument] });
  }

  async screenshot({ path }) {
    writeFileSync(path, Buffer.from(await this.command("GET", "/screenshot"), "base64"));
  }

  #strike(keys) {
    return this.#act("key", "keyboard", keys.flatMap((value) => [{ type: "keyDown", value }, { type: "keyUp", value }]));
  }

  #act(type, id, actions) {
    const parameters = type === "pointer" ? { parameters: { pointerType: "mouse" } } : {};
    return this.command("POST", "/actions", { actions: [{ type, id, ...parameters, actions }] });
  }
}

/** One command to a WebDriver; what it answers, or its error. */
async function ask(base, method, path, body, within_ms) {
  const response = await fetch(base + path, {
    method,
    signal: AbortSignal.timeout(within_ms),
    ...(body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) }),
  });
  const { value } = await response.json();
  if (!response.ok) throw new Error(`WebKit: ${method} ${path || "/"}: ${value?.error}: ${value?.message}`);
  return value;
}

/** A display that nobody else has; its name. */
async function openDisplay(atEnd, home) {
  const server = started(atEnd, found("Xvfb"), ["-displayfd", "3", "-screen", "0", "1280x900x24", "-nolisten", "tcp"], {
    env: { PATH: process.env.PATH, HOME: home }, stdio: ["ignore", "ignore", "ignore", "pipe"],
  });
  let said = "";
  server.stdio[3].on("data", (data) => { said += data; });
  return eventually("the display is there", () => {
    assert.equal(server.exitCode, null, "Xvfb ended");
    return /^\d+\n/.test(said) && `:${said.trim()}`;
  }, { within_ms: 20_000 });
}

/** Starts a process that ends with the test, and everything that it started. */
function started(atEnd, file, args, options) {
  const child = spawn(file, args, { ...options, detached: true });
  const end = () => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // All of them have ended.
    }
  };
  process.on("exit", end);
  atEnd(async () => {
    const ended = child.exitCode === null && child.signalCode === null && once(child, "exit");
    end();
    await ended;
    process.off("exit", end);
  });
  return child;
}

async function freePort() {
  const held = net.createServer().listen(0, "127.0.0.1");
  await once(held, "listening");
  const { port } = held.address();
  held.close();
  await once(held, "close");
  return port;
}

/** The browser that belongs to the driver, wherever this distribution puts it. */
function miniBrowser() {
  const folders = readdirSync(BROWSERS).map((name) => path.join(BROWSERS, name));
  return [BROWSERS, ...folders].flatMap((folder) => ["4.1", "4.0"].map((version) => path.join(folder, `webkit2gtk-${version}`, "MiniBrowser")))
    .find((file) => existsSync(file));
}

/** The program of this name. */
function found(name) {
  return process.env.PATH.split(":").map((folder) => path.join(folder, name)).find((file) => existsSync(file));
}
