import type { Client, ClientEvents, ConnectOptions, Environment, PageSignal, Room, RoomOptions, Status, Unsubscribe } from "./api";
import { Connection } from "./connection";
import { Emitter } from "./emitter";
import { browserEnvironment } from "./environment";
import { decodeCursors } from "./frames";
import type { Link } from "./link";
import type { LookAround } from "./nearest";
import { Nodes, endpoint } from "./nodes";
import type { Limits, RoomMessage, ServerMessage } from "./protocol";
import { ResumeStore, type Resume } from "./resume";
import { RoomCore, type Host } from "./room";
import type { OpenSocket } from "./transport";
import { whole } from "./values";

/** Without a connection for this long, a page should say so; most losses are over before. */
const LOST_MS = 5_000;

/** Until a node says its own. */
const LIMITS: Limits = { rooms: 32, state_bytes: 4_096, event_bytes: 16_384, message_bytes: 65_536 };

export class ClientCore implements Client, Host {
  readonly env: Environment;
  limits = LIMITS;
  readonly #connection: Connection;
  readonly #rooms = new Map<string, RoomCore>();
  /** `leave`s without an answer, by room: what arrives before it is about the room that was left. */
  readonly #leaving = new Map<string, number>();
  readonly #events: Emitter<ClientEvents>;
  readonly #store: ResumeStore | null;
  /** Tokens that the page before left. */
  #resumes = new Map<string, Resume>();
  #cancelLost: (() => void) | null = null;
  #lost = false;
  readonly #unwatch: () => void;

  constructor(
    options: ConnectOptions,
    defaultUrl: string | null,
    loadSockjs: () => Promise<OpenSocket>,
    loadNearest: () => Promise<LookAround>,
    readonly loadUi: Host["loadUi"],
  ) {
    this.env = { ...browserEnvironment(), ...options.environment };
    const given = options.urls ?? (options.url === undefined ? [] : [options.url]);
    const urls = given.length > 0 ? given : defaultUrl === null ? [] : [defaultUrl];
    const nodes = urls.map((url) => endpoint(url, defaultUrl ?? undefined));
    const bad = nodes.indexOf(null);
    if (urls.length === 0 || bad >= 0) throw new TypeError(`cursormesh: not an address: ${urls[bad] ?? "(none)"}`);
    this.#events = new Emitter((error) => this.env.report(error));
    this.#store = options.persist === false ? null : new ResumeStore(this.env, nodes[0] ?? "");
    if (this.#store) this.#resumes = this.#store.take();
    this.#unwatch = this.env.watch((signal) => this.#signal(signal));
    this.#connection = new Connection(
      this.env,
      {
        nodes: new Nodes(nodes as string[]),
        transports: options.transports ?? ["websocket", "sockjs"],
        token: options.token ?? null,
        json: options.json ?? false,
        loadSockjs,
        loadNearest: options.nearest === false ? null : loadNearest,
      },
      {
        status: (status) => this.#status(status),
        opened: (welcome) => {
          this.limits = { ...LIMITS, ...welcome.limits };
          for (const room of this.#all()) room.opened();
        },
        lost: () => {
          this.#leaving.clear();
          for (const room of this.#all()) room.lost();
        },
        superseded: () => {
          for (const room of this.#all()) room.disown();
        },
        message: (message) => this.#message(message),
        bytes: (bytes) => this.#bytes(bytes),
      },
    );
    this.#watchLost();
    this.#connection.start();
  }

  get status(): Status {
    return this.#connection.status;
  }

  get link(): Link | null {
    return this.#connection.link;
  }

  get binary(): boolean {
    return this.#connection.binary;
  }

  room<State = Record<string, unknown>, EventMap extends object = Record<string, unknown>>(
    called: string,
    options: RoomOptions<State> | null = null,
  ): Room<State, EventMap> {
    const name = whole(called);
    let room = this.#rooms.get(name);
    if (!room) {
      room = new RoomCore(name, this, options as RoomOptions<Record<string, unknown>> | null, this.#resumes.get(name));
      this.#resumes.delete(name);
      this.#rooms.set(name, room);
      if (this.link) room.opened();
    }
    return room as unknown as Room<State, EventMap>;
  }

  on<Name extends keyof ClientEvents>(name: Name, fn: (event: ClientEvents[Name]) => void): Unsubscribe {
    return this.#events.on(name, fn);
  }

  latency(): number | null {
    return this.link?.round_trip_ms ?? null;
  }

  reconnect(): void {
    this.#connection.reconnect();
  }

  close(): void {
    for (const room of this.#all()) room.leave();
    this.#unwatch();
    this.#store?.release();
    this.#connection.close();
  }

  forget(room: RoomCore, told: boolean): void {
    this.#rooms.delete(room.name);
    if (told) this.#leaving.set(room.name, (this.#leaving.get(room.name) ?? 0) + 1);
  }

  /** A copy: handlers may leave and enter rooms. */
  #all(): RoomCore[] {
    return [...this.#rooms.values()];
  }

  #message(message: ServerMessage): void {
    // Unknown types without a room are for newer clients.
    const { room: name } = message as Partial<RoomMessage>;
    if (name === undefined) return;
    const leaving = this.#leaving.get(name);
    if (leaving !== undefined) {
      if (message.type !== "left" && !(message.type === "error" && message.code === "not_joined")) return;
      if (leaving > 1) this.#leaving.set(name, leaving - 1);
      else this.#leaving.delete(name);
      return;
    }
    this.#rooms.get(name)?.handle(message as RoomMessage);
  }

  #bytes(bytes: ArrayBuffer): void {
    const frame = decodeCursors(bytes);
    if (!frame) return;
    for (const room of this.#rooms.values()) if (room.number === frame.number) return room.moved(frame);
  }

  #status(status: Status): void {
    // The first status comes before anybody can listen.
    this.#events.emit("status", status);
    for (const room of this.#all()) room.tell("status", status);
    if (status.state === "connected") {
      this.#cancelLost?.();
      this.#cancelLost = null;
      if (this.#lost) this.#tell("restored");
      this.#lost = false;
    } else if (status.state === "closed" && status.reason.why === "done") {
      this.#cancelLost?.();
      this.#cancelLost = null;
    } else if (!this.#lost) {
      this.#watchLost();
    }
  }

  #watchLost(): void {
    this.#cancelLost ??= this.env.timer(() => {
      this.#cancelLost = null;
      this.#lost = true;
      this.#tell("lost");
    }, LOST_MS);
  }

  #tell(name: "lost" | "restored"): void {
    this.#events.emit(name, {});
    for (const room of this.#all()) room.tell(name, {});
  }

  #signal(signal: PageSignal): void {
    if (!this.#store) return;
    if (signal === "hide") {
      const resumes = new Map(this.#resumes);
      for (const room of this.#all()) {
        const resume = room.resume();
        if (resume) resumes.set(room.name, resume);
      }
      this.#store.save(resumes);
    } else if (signal === "show") {
      // Back from the cache: pages of this tab since then may have been these members.
      const found = this.#store.take();
      for (const room of this.#all()) {
        const resume = found.get(room.name);
        if (resume) room.adopt(resume);
        else room.disown();
      }
    }
  }
}
