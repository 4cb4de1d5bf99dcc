/** A browser without a browser: clock, sockets, storage and page under the test's control. */
import assert from "node:assert/strict";
import type { ConnectOptions, Environment, PageSignal, WebSocketLike } from "../src/api";
import { ClientCore } from "../src/client";
import { decodeCursors } from "../src/frames";
import type { LookAround } from "../src/nearest";
import type { ClientMessage, JoinedMessage, ServerMessage, WireMember, Welcome } from "../src/protocol";
import type { OpenSocket } from "../src/transport";

/** A small generator of random numbers, at least 0 and less than 1 (mulberry32). */
export function seeded(seed: number): () => number {
  let a = seed >>> 0;
  return () => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** Lets promises go on. */
export const settle = async () => {
  for (let i = 0; i < 10; i += 1) await null;
};

/** Time that moves when it is told to. */
export class Clock {
  now = 10_000;
  wall = 1_764_000_000_000;
  #timers: { at: number; order: number; fn: () => void }[] = [];
  #order = 0;

  timer(fn: () => void, delay_ms: number): () => void {
    const timer = { at: this.now + Math.max(0, delay_ms), order: this.#order++, fn };
    this.#timers.push(timer);
    return () => {
      this.#timers = this.#timers.filter((other) => other !== timer);
    };
  }

  get pending(): number {
    return this.#timers.length;
  }

  async advance(ms: number): Promise<void> {
    const end = this.now + ms;
    await settle();
    for (;;) {
      const next = this.#timers.filter(({ at }) => at <= end).sort((a, b) => a.at - b.at || a.order - b.order)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.#to(Math.max(this.now, next.at));
      next.fn();
      await settle();
    }
    this.#to(end);
  }

  /** The machine sleeps: time goes by and nothing runs; then everything that is due. */
  async sleep(ms: number): Promise<void> {
    this.#to(this.now + ms);
    await this.advance(0);
  }

  #to(now: number): void {
    this.wall += now - this.now;
    this.now = now;
  }
}

export class FakeSocket implements WebSocketLike {
  binaryType = "";
  bufferedAmount = 0;
  /** Answers pings by itself. */
  alive = false;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror: ((event: never) => void) | null = null;
  /** What the client sent: messages, and cursor frames as `[number, time_ms, x, y]`. */
  readonly sent: (ClientMessage | number[])[] = [];
  /** How the client closed it. */
  closed: { code: number; reason: string } | null = null;

  constructor(
    readonly url: string,
    readonly protocols: string[],
  ) {}

  send(data: string | Uint8Array<ArrayBuffer>): void {
    assert.equal(this.closed, null, "sent after close");
    if (typeof data === "string") {
      const message = JSON.parse(data) as ClientMessage;
      this.sent.push(message);
      if (message.type === "ping" && this.alive) queueMicrotask(() => this.pong());
      return;
    }
    const view = new DataView(data.buffer);
    assert.equal(view.getUint8(0), 1);
    this.sent.push([view.getUint32(4, true), view.getUint16(8, true), view.getFloat32(10, true), view.getFloat32(14, true)]);
  }

  close(code = 1005, reason = ""): void {
    this.closed ??= { code, reason };
  }

  // The server's side.

  open(): void {
    this.onopen?.(undefined as never);
  }

  say(...messages: ServerMessage[]): void {
    for (const message of messages) this.onmessage?.({ data: JSON.stringify(message) });
  }

  bytes(hex: string): void {
    const bytes = Uint8Array.from(Buffer.from(hex, "hex"));
    assert.ok(decodeCursors(bytes.buffer), "the test's own frame is right");
    this.onmessage?.({ data: bytes.buffer });
  }

  /** Ends it; 1006 is what a browser says of a connection that broke. */
  end(code = 1006, reason = ""): void {
    const { onclose } = this;
    this.onopen = this.onmessage = this.onclose = null;
    onclose?.({ code, reason });
  }

  /** The last message of a type that the client sent. */
  last<Type extends ClientMessage["type"]>(type: Type): Extract<ClientMessage, { type: Type }> {
    const found = this.all(type).at(-1);
    assert.ok(found, `no ${type} was sent`);
    return found;
  }

  all<Type extends ClientMessage["type"]>(type: Type): Extract<ClientMessage, { type: Type }>[] {
    return this.sent.filter((one): one is Extract<ClientMessage, { type: Type }> => !Array.isArray(one) && one.type === type);
  }

  /** Cursor frames sent so far. */
  get cursors(): number[][] {
    return this.sent.filter((one) => Array.isArray(one));
  }

  /** Opens and welcomes. */
  welcome(more: Partial<Welcome> = {}): void {
    this.open();
    this.say({
      type: "welcome",
      connection: "5a0e3f52-7d41-4a7b-9c55-2f1d8e6b4a90",
      node: "n1",
      region: "eu",
      ping_ms: 20_000,
      dead_ms: 30_000,
      nodes: [{ node: "n1", region: "eu" }],
      limits: { rooms: 32, state_bytes: 4_096, event_bytes: 16_384, message_bytes: 65_536 },
      ...more,
    });
  }

  /** Answers a join, with `others` in the room. */
  join(room = "lobby", others: WireMember[] = [], more: Partial<JoinedMessage> = {}): void {
    const self = more.self ?? member("me", { alias: 99 });
    this.say(
      { type: "joined", room, number: 7, self, token: "T1", token_ms: 120_000, outcome: "new", positions: {}, ...more },
      { type: "snapshot", room, version: "1", members: [self, ...others], more: false },
    );
  }

  pong(): void {
    this.say({ type: "pong", t: this.last("ping").t, time: 0 });
  }
}

let joined_at = 0;
export function member(id: string, more: Partial<WireMember> = {}): WireMember {
  joined_at += 1;
  return { id, alias: joined_at, user: { id: "", name: id, color: 1 }, state: null, node: "n1", joined_at, away: false, ...more };
}

/** A tab. */
export class World {
  readonly sockets: FakeSocket[] = [];
  readonly errors: unknown[] = [];
  readonly stored = new Map<string, string>();
  /** Answers of `random`, then 0.5 for ever. */
  randoms: number[] = [];
  hidden = false;
  /** New sockets answer pings by themselves. */
  alive = false;
  frames: (() => void)[] = [];
  sockjs: OpenSocket | null = null;
  /** What a look for nearer nodes finds. */
  nearest: LookAround | null = null;
  readonly #watchers = new Set<(signal: PageSignal) => void>();

  constructor(readonly clock = new Clock()) {}

  readonly environment: Environment = {
    now: () => this.clock.now,
    wall: () => this.clock.wall,
    random: () => this.randoms.shift() ?? 0.5,
    timer: (fn, delay_ms) => this.clock.timer(fn, delay_ms),
    frame: (fn) => {
      if (this.hidden) return null;
      this.frames.push(fn);
      return () => {
        this.frames = this.frames.filter((other) => other !== fn);
      };
    },
    webSocket: (url, protocols) => {
      const socket = new FakeSocket(url, protocols);
      socket.alive = this.alive;
      this.sockets.push(socket);
      return socket;
    },
    fetch: () => Promise.reject(new Error("no fetch here")),
    storage: {
      getItem: (key) => this.stored.get(key) ?? null,
      setItem: (key, value) => void this.stored.set(key, value),
      removeItem: (key) => void this.stored.delete(key),
    },
    watch: (fn) => {
      this.#watchers.add(fn);
      return () => this.#watchers.delete(fn);
    },
    report: (error) => void this.errors.push(error),
  };

  client(options: ConnectOptions = {}): ClientCore {
    return new ClientCore({ environment: this.environment, url: "http://n1.test", ...options }, null, async () => {
      if (!this.sockjs) throw new Error("SockJS is not here");
      return this.sockjs;
    }, async () => {
      if (!this.nearest) throw new Error("nearest is not here");
      return this.nearest;
    }, async () => {
      throw new Error("nothing draws here");
    });
  }

  /** The newest socket. */
  get socket(): FakeSocket {
    const socket = this.sockets.at(-1);
    assert.ok(socket, "there is no socket");
    return socket;
  }

  signal(signal: PageSignal): void {
    if (signal === "hidden") this.hidden = true;
    if (signal === "visible") this.hidden = false;
    for (const watcher of [...this.#watchers]) watcher(signal);
  }

  /** An animation frame, 16 ms later. */
  async frame(): Promise<void> {
    await this.clock.advance(16);
    const { frames } = this;
    this.frames = [];
    for (const fn of frames) fn();
  }
}

/** Notes everything that an `on` tells under these names. */
export function record<Name extends string>(
  on: (name: Name, fn: (event: any) => void) => unknown,
  names: readonly Name[],
): [Name, unknown][] {
  const told: [Name, unknown][] = [];
  for (const name of names) on(name, (event: unknown) => void told.push([name, event]));
  return told;
}
