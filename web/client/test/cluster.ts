/**
 * A cluster as the protocol describes it, in memory, that can be broken: connections cut or silent,
 * noticed at once or late by either end; nodes killed and drained; everything delayed.
 */
import type { LeaveReason, WebSocketLike } from "../src/api";
import type { ClientMessage, JoinedMessage, Positions, ServerMessage, WireMember } from "../src/protocol";
import type { Clock } from "./world";

const GRACE_MS = 10_000;
/** Until a dead node's members are hidden. */
const EVIDENCE_MS = 4_000;
/** A half-open connection is noticed by the server's pings. */
const DEAD_MS = 30_000;
/** Until an alias is reused. */
const ALIAS_MS = 30_000;
/** Shorter than real ones, so that it is missed now and then. */
const RING_MS = 8_000;

interface Row {
  member: WireMember;
  room: string;
  epoch: number;
  /** The connection that holds it; `null` while it is away. */
  held: Connection | null;
  position: [t: number, x: number, y: number] | null;
  cancel: () => void;
}

interface Said {
  at: number;
  room: string;
  origin: string;
  n: number;
  message: ServerMessage & { type: "event" };
}

interface Node {
  name: string;
  life: number;
  up: boolean;
  connections: Set<Connection>;
}

/** Both ends of a socket. Messages go in order, each after a delay. */
export class Connection implements WebSocketLike {
  binaryType = "";
  bufferedAmount = 0;
  onopen: ((event: never) => void) | null = null;
  onmessage: ((event: { data: unknown }) => void) | null = null;
  onclose: ((event: { code: number; reason: string }) => void) | null = null;
  onerror = null;
  /** Nothing passes any more, and nobody has noticed. */
  silent = false;
  /** Ended, as either end sees it. */
  clientGone = false;
  serverGone = false;
  readonly rooms = new Map<string, string>();
  #up = 0;
  #down = 0;

  constructor(
    readonly cluster: Cluster,
    readonly tab: string,
    readonly node: Node | null,
  ) {
    this.#toClient(() => (node?.up ? (node.connections.add(this), this.onopen?.(undefined as never)) : this.clientSees(1006, "")));
  }

  send(data: string | Uint8Array<ArrayBuffer>): void {
    const copy = typeof data === "string" ? data : data.slice();
    this.#toServer(() => this.cluster.receive(this, copy));
  }

  close(code = 1005): void {
    this.clientGone = true;
    this.#toServer(() => this.cluster.closed(this, code));
  }

  say(message: ServerMessage): void {
    const data = JSON.stringify(message);
    this.#toClient(() => this.onmessage?.({ data }));
  }

  bytes(bytes: ArrayBuffer): void {
    this.#toClient(() => this.onmessage?.({ data: bytes }));
  }

  /** The server closes it, after all that waits. */
  finish(code: number, reason: string): void {
    this.serverGone = true;
    this.node?.connections.delete(this);
    this.#toClient(() => this.clientSees(code, reason));
  }

  clientSees(code: number, reason: string): void {
    if (this.clientGone) return;
    this.clientGone = true;
    this.onclose?.({ code, reason });
  }

  #toServer(fn: () => void): void {
    this.#up = Math.max(this.#up, this.cluster.clock.now + this.cluster.delay());
    this.cluster.clock.timer(() => this.silent || this.serverGone || fn(), this.#up - this.cluster.clock.now);
  }

  #toClient(fn: () => void): void {
    this.#down = Math.max(this.#down, this.cluster.clock.now + this.cluster.delay());
    this.cluster.clock.timer(() => this.silent || this.clientGone || fn(), this.#down - this.cluster.clock.now);
  }
}

export class Cluster {
  readonly nodes = ["n1", "n2", "n3"].map((name): Node => ({ name, life: 1, up: true, connections: new Set() }));
  readonly rows = new Map<string, Row>();
  /** Every event that was taken, in the order of all. */
  readonly said: Said[] = [];
  /** Every leave, by member. */
  readonly leaves = new Map<string, LeaveReason[]>();
  /** The data of every event that a tab must have heard: since it joined, or since it was told of a loss. */
  readonly due = new Map<string, Set<unknown>>();
  /** How joins turned out. */
  readonly outcomes: Record<string, number> = {};
  calm = false;
  #version = 0;
  #ids = 0;
  readonly #released = new Map<number, number>();
  readonly #n = new Map<string, number>();

  constructor(
    readonly clock: Clock,
    readonly random: () => number,
  ) {}

  /** Milliseconds; now and then a long one. */
  delay(): number {
    if (this.calm) return 20;
    return this.random() < 0.01 ? this.random() * 1_500 : 1 + this.random() * 60;
  }

  /** Tabs that reach no node. */
  readonly offline = new Set<string>();

  connect(tab: string, url: string): Connection {
    const node = this.offline.has(tab) ? null : this.nodes.find(({ name }) => url.includes(name));
    return new Connection(this, tab, node ?? null);
  }

  get connections(): Connection[] {
    return this.nodes.flatMap(({ connections }) => [...connections]);
  }

  // What goes wrong.

  /** Cut, without a close frame; each end notices in its own time. */
  cut(connection: Connection): void {
    connection.silent = true;
    if (this.random() < 0.7) this.clock.timer(() => connection.clientSees(1006, ""), this.random() * 300);
    this.clock.timer(() => this.closed(connection, 1006), this.random() < 0.5 ? this.random() * 300 : this.random() * DEAD_MS);
  }

  kill(node: Node, down_ms: number): void {
    node.up = false;
    for (const connection of [...node.connections]) {
      connection.silent = true;
      connection.serverGone = true;
      this.clock.timer(() => connection.clientSees(1006, ""), this.random() * 50);
      for (const row of this.rows.values()) {
        if (row.held !== connection) continue;
        // Its rows are shown until the evidence of life is too old.
        this.#away(row, EVIDENCE_MS, "node_lost", false);
        row.position = null;
      }
    }
    for (const row of this.rows.values()) {
      if (row.held === null && row.member.node === node.name) this.#away(row, EVIDENCE_MS, "node_lost", false);
    }
    node.connections.clear();
    this.clock.timer(() => {
      node.up = true;
      node.life += 1;
    }, down_ms);
  }

  drain(node: Node, down_ms: number): void {
    node.up = false;
    for (const connection of [...node.connections]) {
      this.closed(connection, 1012);
      connection.finish(1012, this.random() < 0.5 ? `{"retry_ms":${Math.floor(this.random() * 1_000)}}` : "node is shutting down");
    }
    this.clock.timer(() => {
      node.up = true;
      node.life += 1;
    }, down_ms);
  }

  // What the server does.

  receive(connection: Connection, data: string | Uint8Array<ArrayBuffer>): void {
    if (typeof data !== "string") return this.#frame(connection, data);
    const message = JSON.parse(data) as ClientMessage;
    const node = connection.node;
    if (!node) return;
    switch (message.type) {
      case "hello":
        return connection.say({
          type: "welcome",
          connection: "c",
          node: node.name,
          region: "eu",
          ping_ms: 20_000,
          dead_ms: DEAD_MS,
          nodes: [node, ...this.nodes.filter((other) => other !== node)].map(({ name }) => ({ node: name, region: "eu", url: `ws://${name}.test/v1` })),
          limits: { rooms: 32, state_bytes: 4_096, event_bytes: 16_384, message_bytes: 65_536 },
        });
      case "ping":
        return connection.say({ type: "pong", t: message.t, time: 0 });
      case "join":
        return this.#join(connection, node, message);
      case "leave": {
        const row = this.#row(connection, message.room);
        if (row) this.#remove(row, "closed");
        connection.rooms.delete(message.room);
        return connection.say({ type: "left", room: message.room, reason: "closed" });
      }
      case "update": {
        const row = this.#row(connection, message.room);
        if (!row) return;
        row.member = { ...row.member, ...(message.user && { user: message.user as WireMember["user"] }), ...("state" in message && { state: message.state }) };
        return this.#presence(row.room, { updated: [row.member] });
      }
      case "event": {
        const row = this.#row(connection, message.room);
        if (!row) return;
        const origin = `${node.name}.${node.life}`;
        const n = (this.#n.get(origin) ?? 0) + 1;
        this.#n.set(origin, n);
        const event = { type: "event", room: row.room, from: row.member.id, name: message.name, data: message.data, at: [origin, String(n)] } as const;
        this.said.push({ at: this.clock.now, room: row.room, origin, n, message: { ...event, at: [origin, String(n)] } });
        for (let times = this.random() < 0.05 ? 2 : 1; times > 0; times -= 1) this.#tell(row.room, { ...event, at: [origin, String(n)] });
        return;
      }
      case "cursor":
        return;
    }
  }

  closed(connection: Connection, code: number): void {
    connection.serverGone = true;
    connection.node?.connections.delete(connection);
    for (const row of [...this.rows.values()]) {
      if (row.held !== connection) continue;
      if (code === 1000) this.#remove(row, "closed");
      else this.#away(row, GRACE_MS, "timed_out", true);
    }
    connection.rooms.clear();
  }

  #join(connection: Connection, node: Node, join: ClientMessage & { type: "join" }): void {
    const { room } = join;
    const token = join.resume ? (JSON.parse(join.resume.token) as { member: string; room: string; until: number; joined_at: number }) : null;
    let outcome: JoinedMessage["outcome"] = "new";
    let reason: JoinedMessage["reason"];
    let row: Row | undefined;
    let id = `m${(this.#ids += 1)}`;
    let joined_at = this.clock.wall;
    if (token && token.until < this.clock.now) [outcome, reason] = ["rebuilt", "token_expired"];
    else if (token) {
      ({ member: id, joined_at } = token);
      row = this.rows.get(id);
      [outcome, reason] = row ? ["recovered", undefined] : ["rebuilt", "too_late"];
    }
    const seen: Positions = join.resume?.seen ?? {};
    const log = this.said.filter((one) => one.room === room);
    let missed = outcome === "recovered" ? log.filter(({ origin, n }) => n > Number(seen[origin] ?? 0)) : [];
    const lost = missed.some(({ at }) => at < this.clock.now - RING_MS);
    if (lost) {
      [outcome, reason] = ["rebuilt", "events_lost"];
      missed = missed.filter(({ at }) => at >= this.clock.now - RING_MS);
    }

    const unseen = missed;
    // A server that replays more than was asked for, and one that says something twice, harm nobody.
    if (missed.length > 0 && this.random() < 0.3) missed = log.slice(Math.max(0, log.indexOf(missed[0] as Said) - 3));

    const alias = this.#alias();
    if (row) this.#released.set(row.member.alias, this.clock.now);
    const member: WireMember = {
      id,
      alias,
      user: { id: "", name: "", color: 7, ...join.user },
      state: join.state ?? null,
      node: node.name,
      joined_at,
      away: false,
    };
    const positions: Positions = {};
    for (const { origin, n } of log) positions[origin] = String(Math.max(n, Number(positions[origin] ?? 0)));
    const older = row?.held;
    if (row) {
      row.cancel();
      row.member = member;
      row.held = connection;
      row.epoch += 1;
    } else {
      row = { member, room, epoch: 0, held: connection, position: null, cancel: () => {} };
      this.rows.set(id, row);
    }
    const what = reason ?? outcome;
    this.outcomes[what] = (this.outcomes[what] ?? 0) + 1;
    if (outcome !== "recovered") this.due.delete(connection.tab);
    for (const { message } of unseen) this.#due(connection, message);
    if (older && older !== connection) {
      this.closed(older, 4409);
      older.finish(4409, "superseded");
    }
    // Whoever is in the room already is told first; the version of the snapshot is after that.
    this.#presence(room, outcome === "recovered" || lost ? { updated: [member] } : { joined: [member] });
    connection.rooms.set(room, id);
    const self = row.member;
    const token_ms = 20_000 + this.random() * 180_000;
    const next = JSON.stringify({ member: id, room, until: this.clock.now + token_ms, joined_at });
    connection.say({ type: "pressure", room, interval_ms: 16 + Math.floor(this.random() * 50) });
    connection.say({ type: "joined", room, number: this.#number(room), self, token: next, token_ms, outcome, ...(reason && { reason }), positions });
    for (const { message } of missed) connection.say(message);
    const members = [...this.rows.values()].filter((other) => other.room === room).map(({ member }) => member);
    const version = String(this.#version);
    const half = Math.floor(this.random() * members.length);
    connection.say({ type: "snapshot", room, version, members: members.slice(0, half), more: true });
    connection.say({ type: "snapshot", room, version, members: members.slice(half), more: false });
    connection.bytes(this.#cursors(room, [...this.rows.values()].filter((other) => other.room === room && other.position), 1));
  }

  #frame(connection: Connection, bytes: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(bytes.buffer);
    const number = view.getUint32(4, true);
    for (const [room] of connection.rooms) {
      const row = this.#row(connection, room);
      if (!row || this.#number(room) !== number) continue;
      row.position = [view.getUint16(8, true), view.getFloat32(10, true), view.getFloat32(14, true)];
      const frame = this.#cursors(room, [row], 0);
      for (const other of this.connections) if (other.rooms.has(room)) other.bytes(frame);
    }
  }

  #cursors(room: string, rows: Row[], flags: number): ArrayBuffer {
    const view = new DataView(new ArrayBuffer(8 + 12 * rows.length));
    view.setUint8(0, 2);
    view.setUint8(1, flags);
    view.setUint16(2, rows.length, true);
    view.setUint32(4, this.#number(room), true);
    rows.forEach(({ member, position }, i) => {
      view.setUint16(8 + 12 * i, member.alias, true);
      view.setUint16(10 + 12 * i, position?.[0] ?? 0, true);
      view.setFloat32(12 + 12 * i, position?.[1] ?? 0, true);
      view.setFloat32(16 + 12 * i, position?.[2] ?? 0, true);
    });
    return view.buffer;
  }

  /** The lowest that is free and was so for long enough. */
  #alias(): number {
    const used = new Set([...this.rows.values()].map(({ member }) => member.alias));
    for (let alias = 1; ; alias += 1) {
      const released = this.#released.get(alias) ?? -Infinity;
      if (!used.has(alias) && released < this.clock.now - ALIAS_MS) return alias;
    }
  }

  #number(room: string): number {
    return room.length * 1_000 + room.charCodeAt(0);
  }

  #row(connection: Connection, room: string): Row | undefined {
    const row = this.rows.get(connection.rooms.get(room) ?? "");
    return row?.held === connection ? row : undefined;
  }

  #away(row: Row, grace_ms: number, reason: LeaveReason, tell: boolean): void {
    row.cancel();
    row.held = null;
    row.member = { ...row.member, away: true };
    row.cancel = this.clock.timer(() => this.#remove(row, reason), grace_ms);
    if (tell) this.#presence(row.room, { updated: [row.member] });
  }

  #remove(row: Row, reason: LeaveReason): void {
    row.cancel();
    const { id, alias } = row.member;
    this.rows.delete(id);
    this.#released.set(alias, this.clock.now);
    this.leaves.set(id, [...(this.leaves.get(id) ?? []), reason]);
    this.#presence(row.room, { left: [{ id, reason }] });
  }

  #presence(room: string, change: Partial<ServerMessage & { type: "presence" }>): void {
    this.#version += 1;
    this.#tell(room, { type: "presence", room, version: String(this.#version), ...change });
  }

  #tell(room: string, message: ServerMessage): void {
    for (const connection of this.connections) {
      if (!connection.rooms.has(room)) continue;
      if (message.type === "event") this.#due(connection, message);
      connection.say(message);
    }
  }

  #due(connection: Connection, { data }: ServerMessage & { type: "event" }): void {
    const due = this.due.get(connection.tab) ?? new Set();
    this.due.set(connection.tab, due.add(data));
  }
}
