import type { Ending, Environment, Transport } from "./api";
import { SHORT_LIVED_MS, type Lifetime } from "./ladder";
import { parse, type ClientMessage, type ServerMessage, type Welcome } from "./protocol";
import type { Socket, SocketEvents } from "./transport";

/** Silence where an answer is due that means the socket is dead. */
const ANSWER_MS = 5_000;
/** The same right after the page was away: there the socket is probably dead. */
const ANSWER_FAST_MS = 1_000;
/** How often a link looks after itself; also how soon it notices that the machine slept. */
const TICK_MS = 2_000;
/** A timer later than this means that the page or the machine slept. */
const SLEPT_MS = 3_000;
/** Silence after which to ask. */
const SILENT_MS = 10_000;
/** The round trip is measured at least this often. */
const MEASURE_MS = 30_000;
/**
 * The code with which a client closes a connection that it gives up but whose members it means to
 * keep: to the server the same as one that broke.
 */
export const GIVEN_UP = 4000;

export interface LinkHandlers {
  welcome(welcome: Welcome): void;
  message(message: ServerMessage): void;
  bytes(bytes: ArrayBuffer): void;
  /** At most once, and the last. */
  ended(ending: Ending, lifetime: Lifetime): void;
}

/** One socket, from its opening to its end: hello, welcome, signs of life. */
export class Link {
  readonly #socket: Socket;
  #opened_at: number | null = null;
  #welcomed = false;
  #ended = false;
  #heard_at: number;
  #heard_wall: number;
  /** Answers that are due. */
  #due = 0;
  #deadline: { cancel: () => void; wall: number; fast: boolean } | null = null;
  #ping: number | null = null;
  #pinged_at = 0;
  #cancel_tick = () => {};
  #round_trip_ms: number | null = null;

  constructor(
    private readonly env: Environment,
    open: (events: SocketEvents) => Socket,
    hello: ClientMessage,
    open_ms: number,
    private readonly handlers: LinkHandlers,
  ) {
    this.#heard_at = env.now();
    this.#heard_wall = env.wall();
    this.#wait(open_ms, false);
    this.#socket = open({
      open: () => {
        this.#opened_at = env.now();
        this.send(hello);
      },
      text: (text) => {
        const message = parse(text);
        if (!message || this.#ended) return;
        this.#heard();
        this.#read(message);
      },
      bytes: (bytes) => {
        if (!this.#welcomed || this.#ended) return;
        this.#heard();
        handlers.bytes(bytes);
      },
      closed: (code, text) => this.#end({ code, why: this.#opened_at === null ? "failed" : "closed", text }),
    });
  }

  get transport(): Transport {
    return this.#socket.transport;
  }

  /** Bytes that wait to go out. */
  get buffered(): number {
    return this.#socket.buffered;
  }

  /** When anything last arrived, in milliseconds since the Unix epoch. */
  get heard_wall(): number {
    return this.#heard_wall;
  }

  /** Smoothed; `null` before the first answer. */
  get round_trip_ms(): number | null {
    return this.#round_trip_ms;
  }

  send(message: ClientMessage): void {
    this.sendText(JSON.stringify(message));
  }

  sendText(text: string): void {
    if (!this.#ended) this.#socket.send(text);
  }

  sendBytes(bytes: Uint8Array<ArrayBuffer>): void {
    if (!this.#ended) this.#socket.send(bytes);
  }

  /** What was just sent has an answer. */
  expect(): void {
    this.#due += 1;
    if (!this.#deadline) this.#wait(ANSWER_MS, false);
  }

  /** The answer to what `expect` announced came. */
  answered(): void {
    this.#due = Math.max(0, this.#due - 1);
    if (this.#due === 0) this.#calm();
  }

  /** Asks for a sign of life; `fast` where the socket is in doubt. */
  probe(fast: boolean): void {
    if (!this.#welcomed || this.#ended) return;
    if (this.#ping === null || fast) {
      if (this.#ping === null) this.#due += 1;
      this.#ping = this.#pinged_at = this.env.now();
      this.send({ type: "ping", t: Math.round(this.#ping) });
    }
    if (fast) this.#wait(Math.min(ANSWER_FAST_MS, Math.max(500, 3 * (this.#round_trip_ms ?? ANSWER_FAST_MS))), true);
    else if (!this.#deadline) this.#wait(ANSWER_MS, false);
  }

  /** The same, unless something was heard just now. */
  doubt(): void {
    if (this.env.now() - this.#heard_at > 500) this.probe(true);
  }

  /** Nothing is told from here on; the socket stays open until `drop`. */
  mute(): void {
    this.#stop();
  }

  /** Ends it from this side; nothing is told. */
  drop(code: number, reason: string): void {
    this.#stop();
    this.#socket.close(code, reason);
  }

  #read(message: ServerMessage): void {
    if (message.type === "welcome") {
      if (this.#welcomed) return;
      this.#welcomed = true;
      this.#calm();
      this.#tick();
      this.probe(false);
      this.handlers.welcome(message);
    } else if (message.type === "pong") {
      if (this.#ping === null || message.t !== Math.round(this.#ping)) return;
      const round_trip_ms = this.env.now() - this.#ping;
      this.#round_trip_ms =
        this.#round_trip_ms === null ? round_trip_ms : 0.7 * this.#round_trip_ms + 0.3 * round_trip_ms;
      this.#ping = null;
      this.#calm();
      this.answered();
      if (this.#due > 0 && !this.#deadline) this.#wait(ANSWER_MS, false);
    } else if (this.#welcomed) {
      this.handlers.message(message);
    }
  }

  /** Anything that arrives is a sign of life; only in doubt it has to be the pong, as bytes may have waited in this machine. */
  #heard(): void {
    this.#heard_at = this.env.now();
    this.#heard_wall = this.env.wall();
    if (this.#deadline && !this.#deadline.fast && this.#welcomed) this.#wait(ANSWER_MS, false);
  }

  #wait(ms: number, fast: boolean): void {
    this.#calm();
    this.#deadline = { cancel: this.env.timer(() => this.#late(), ms), wall: this.env.wall() + ms, fast };
  }

  #calm(): void {
    this.#deadline?.cancel();
    this.#deadline = null;
  }

  #late(): void {
    const deadline = this.#deadline;
    this.#deadline = null;
    if (!deadline || this.#ended) return;
    // The answer may be here, behind this timer.
    if (this.#welcomed && !deadline.fast && this.env.wall() > deadline.wall + SLEPT_MS) return this.probe(true);
    this.#stop();
    this.#socket.close(GIVEN_UP, "no answer");
    this.#tell({ code: null, why: this.#opened_at === null ? "failed" : "silent", text: "no answer" }, deadline.fast);
  }

  #tick(): void {
    const expected = this.env.wall() + TICK_MS;
    this.#cancel_tick = this.env.timer(() => {
      this.#tick();
      const now = this.env.now();
      if (this.env.wall() > expected + SLEPT_MS) this.doubt();
      else if (now - this.#heard_at >= SILENT_MS || now - this.#pinged_at >= MEASURE_MS) this.probe(false);
    }, TICK_MS);
  }

  #end(ending: Ending): void {
    if (this.#ended) return;
    this.#stop();
    this.#tell(ending);
  }

  #stop(): void {
    this.#ended = true;
    this.#calm();
    this.#cancel_tick();
  }

  #tell(ending: Ending, looked = false): void {
    const { code } = ending;
    const abnormal = code === null || code === 1005 || code === 1006;
    let lived_ms = this.#opened_at === null ? null : this.env.now() - this.#opened_at;
    // Let through and then swallowed: a socket that opens and carries nothing is as good as none.
    if (!this.#welcomed && abnormal && lived_ms !== null && lived_ms >= SHORT_LIVED_MS) lived_ms = null;
    this.handlers.ended(ending, {
      transport: this.transport,
      lived_ms,
      abnormal,
      looked,
    });
  }
}
