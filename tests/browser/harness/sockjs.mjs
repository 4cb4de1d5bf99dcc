// The real sockjs-client in Node, and where the tests' pages get it from.

import { createRequire } from "node:module";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http from "node:http";
import { fileURLToPath } from "node:url";
import SockJS from "sockjs-client";
import { eventually } from "./eventually.mjs";

/** What sockjs-client can do in Node. */
export const NODE_TRANSPORTS = ["websocket", "xhr-streaming", "xhr-polling", "eventsource"];
/** What it can do in Chromium, in the order in which it tries. `htmlfile` is for pages of the node itself. */
export const BROWSER_TRANSPORTS = [
  "websocket", "xhr-streaming", "eventsource", "iframe-eventsource", "htmlfile", "iframe-htmlfile", "xhr-polling",
  "iframe-xhr-polling", "jsonp-polling",
];
/**
 * The least time that a transport has to open. Left to itself the client gives one less than a second
 * on loopback, and machines that run tests have more to do.
 */
export const PATIENCE_MS = 10_000;

const PAGES = fileURLToPath(new URL("../../pages/", import.meta.url));
const CLIENT_URL = /^https:\/\/cdn\.jsdelivr\.net\/npm\/sockjs-client@1\/dist\/sockjs\.min\.js$/;
const CLIENT = readFileSync(createRequire(import.meta.url).resolve("sockjs-client/dist/sockjs.min.js"));

// A browser tells the client of an answer that breaks off; in Node the client does not ask for that.
const { request } = http;
http.request = (...args) => {
  const made = request(...args);
  made.on("response", (response) => response.on("aborted", () => {
    if (made.listenerCount("error") > 0) made.emit("error", new Error("the answer broke off"));
  }));
  return made;
};

/** A session of sockjs-client in Node, and what it was told. */
export class Session {
  /** The texts that came, in order. */
  texts = [];
  /** `{code, reason}` once it is closed. */
  ending = null;
  /** Which transport it has, or had last. */
  transport = null;
  /** Called with each text that comes. */
  onText = () => {};
  #socket;

  /** `transport` alone is tried; `null` leaves it to the client. */
  constructor(url, transport, options = {}) {
    const transports = transport === null ? undefined : transport;
    this.#socket = new SockJS(url, null, { transports, timeout: PATIENCE_MS, ...options });
    this.#socket.onopen = () => { this.transport = this.#socket.transport; };
    this.#socket.onmessage = ({ data }) => {
      this.texts.push(data);
      this.onText(data);
    };
    this.#socket.onclose = ({ code, reason }) => { this.ending = { code, reason }; };
  }

  get isOpen() {
    return this.#socket.readyState === 1;
  }

  send(text) {
    this.#socket.send(text);
  }

  close() {
    this.#socket.close();
  }

  /** Waits until it is open. */
  async opened() {
    await eventually("the session is open", () => this.ending ?? this.isOpen, { within_ms: 2 * PATIENCE_MS, every_ms: 10 });
    if (this.ending) throw new Error(`the session is closed: ${JSON.stringify(this.ending)}`);
    return this;
  }

  /** Waits until it is closed; gives how. */
  closed(options) {
    return eventually("the session is closed", () => this.ending, { every_ms: 10, ...options });
  }
}

/** Opens sessions that end with the test `t`. */
export function sessions(t) {
  const all = [];
  t.after(() => {
    for (const session of all) session.close();
  });
  return (url, transport, options) => {
    const session = new Session(url, transport, options);
    all.push(session);
    return session.opened();
  };
}

/** An application's own server, with the tests' pages. */
export async function site(t) {
  const server = http.createServer((request, response) => {
    response.setHeader("content-type", "text/html; charset=utf-8");
    response.end(readFileSync(PAGES + new URL(request.url, "http://localhost").pathname.slice(1)));
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: (path) => `http://127.0.0.1:${server.address().port}/${path}` };
}

/**
 * A page in a browser profile of its own that gets sockjs-client as every page does, but from here. With
 * `transport`, SockJS uses that one, and the page does not know.
 */
export async function sockjsPage(browser, transport) {
  const context = await browser.newContext({ viewport: { width: 1000, height: 700 } });
  await context.route(CLIENT_URL, (route) => route.fulfill({ contentType: "text/javascript", body: CLIENT }));
  const page = await context.newPage();
  page.errors = [];
  page.on("pageerror", (error) => page.errors.push(String(error)));
  if (transport) {
    await page.addInitScript(([transport, timeout]) => {
      let client;
      Object.defineProperty(window, "SockJS", {
        get: () => client,
        set: (real) => {
          client = new Proxy(real, {
            construct: (real, [url]) => {
              window.sockjs = new real(url, null, { transports: [transport], timeout });
              return window.sockjs;
            },
          });
        },
      });
    }, [transport, PATIENCE_MS]);
  }
  return page;
}

/** The tutorial's SockJS page, for the address `url` of a page. */
export async function servePage(page, url, file) {
  await page.route(url, (route) => route.fulfill({ contentType: "text/html; charset=utf-8", path: PAGES + file }));
}
