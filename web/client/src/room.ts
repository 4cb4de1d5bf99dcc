import type {
  CursorEvent,
  Cursors,
  DropReason,
  Environment,
  Events,
  Me,
  Member,
  PresenceEvents,
  RebuiltReason,
  Room,
  RoomEvent,
  RoomEvents,
  Status,
  User,
} from "./api";
import { wait_ms } from "./backoff";
import { CursorTable, interval_ms, sample } from "./cursors";
import { Emitter } from "./emitter";
import { encodeCursor, type CursorFrame, type Sample } from "./frames";
import type { Link } from "./link";
import { Pacer } from "./pacer";
import type * as Ui from "./ui";
import { applyDiff, applySnapshot, inOrder, publicMember, type Change, type Members } from "./presence";
import {
  assertNever,
  isAfter,
  type EventMessage,
  type Join,
  type JoinedMessage,
  type Limits,
  type Positions,
  type PositionsMessage,
  type Presence,
  type RoomMessage,
  type Snapshot,
  type WireMember,
} from "./protocol";
import type { Resume } from "./resume";
import { size, toText, toUser, whole } from "./values";

/** State and user change at most this often. */
const UPDATE_MS = 50;
/** Bytes that wait in the socket above which cursors wait too: the newest goes when there is room. */
const CURSOR_BUFFER_BYTES = 16_384;
/** The same for events, which are refused. */
const EVENT_BUFFER_BYTES = 262_144;
const EVENT_NAME_BYTES = 64;
/** Origins whose position is kept; a cluster that restarts for ever must not fill a page. */
const ORIGINS_MAX = 64;
/** Events whose refusal can still be told by name. */
const REFS_MAX = 64;
const OVER = "the room is over";

type Fields = Record<string, unknown>;

/** What a room needs from its client. */
export interface Host {
  readonly env: Environment;
  /** `null` while there is no connection. */
  readonly link: Link | null;
  /** Whether cursors travel as binary frames. */
  readonly binary: boolean;
  readonly limits: Limits;
  readonly status: Status;
  /** What draws. */
  loadUi(): Promise<typeof Ui>;
  /** The room left; `told` if an answer of the server follows. */
  forget(room: RoomCore, told: boolean): void;
}

type Phase =
  /** There is no connection, or the room is not asked for yet. */
  | "away"
  /** `join` is sent. */
  | "joining"
  /** `joined` came, the list of members not yet. */
  | "syncing"
  | "joined"
  /** The server does not want it; asked again on the next connection. */
  | "refused"
  | "ended";

export class RoomCore implements Room<Fields, Fields> {
  #phase: Phase = "away";
  #made = false;
  /** In binary frames of this connection. */
  #number: number | null = null;
  #self: WireMember | null = null;
  /** Ids this page had before and lost: nobody, while the server shows them as away. */
  readonly #former = new Set<string>();
  /** The others. */
  #members: Members = new Map();
  #version = "";
  #pages: Snapshot | null = null;
  /** What arrived between the pages. */
  #diffs: Presence[] = [];
  /** What arrived before the list was complete. */
  #early: (EventMessage | PositionsMessage)[] = [];
  #others: readonly Member<Fields>[] = [];
  /** Members that are not listed. */
  #unlisted = 0;
  /** Whether this one is. */
  #listed = false;
  readonly #views = new WeakMap<WireMember, Member<Fields>>();

  #token: string | null = null;
  #seen = new Map<string, string>();
  /** When the room was last heard of, milliseconds since the Unix epoch; `null` while it is joined. */
  #lost_at: number | null = null;
  /** Joined before, on this page. */
  #known = false;
  /** How the join that is under way turned out. */
  #outcome: JoinedMessage | null = null;
  #refusals = 0;
  #cancelRejoin = () => {};

  #user: Partial<User> = {};
  #state: Fields = {};
  #stateGiven = false;
  #changed = { user: false, state: false };
  #cursor: Sample | null = null;
  /** The newest position has not gone out. */
  #cursorWaits = false;
  #pressure_ms = 0;
  #ref = 0;
  readonly #refs = new Map<number, string>();

  readonly #table = new CursorTable();
  readonly #cursorPacer: Pacer;
  readonly #updatePacer: Pacer;
  readonly #room: Emitter<RoomEvents<Fields>>;
  readonly #presence: Emitter<PresenceEvents<Fields>>;
  readonly #cursors: Emitter<{ moved: CursorEvent<Fields> }>;
  readonly #events: Emitter<Record<string, RoomEvent<string, unknown, Fields>>>;

  readonly me: Me<Fields>;
  readonly cursors: Cursors<Fields>;
  readonly presence: Room<Fields, Fields>["presence"];
  readonly events: Events<Fields, Fields>;

  constructor(
    readonly name: string,
    private readonly host: Host,
    options: { user?: Partial<User>; state?: Fields } | null,
    resume: Resume | undefined,
  ) {
    const { env } = host;
    if (resume) this.adopt(resume);
    const report = (error: unknown) => env.report(error);
    this.#room = new Emitter(report);
    this.#presence = new Emitter(report);
    this.#cursors = new Emitter(report);
    this.#events = new Emitter(report);
    this.#cursorPacer = new Pacer(
      env,
      () => Math.max(this.#pressure_ms, interval_ms(this.#members.size + 1)),
      () => this.#sendCursor(),
    );
    this.#updatePacer = new Pacer(env, () => UPDATE_MS, () => this.#sendUpdate());

    const room = this;
    this.me = {
      get member() {
        return room.#self && room.#view(room.#self);
      },
      get state() {
        return room.#state;
      },
      get user() {
        return room.#user;
      },
      set: (state) => this.#setState(state),
      setUser: (user) => this.#setUser(user),
    };
    this.cursors = {
      set: (x, y) => this.#setCursor(x, y),
      get all() {
        return room.#positions();
      },
      on: (fn) => this.#cursors.on("moved", fn),
      render: (container, options) => host.loadUi().then((ui) => ui.render(this as unknown as Room, container, options)),
    };
    this.presence = { on: (name, fn) => this.#presence.on(name, fn) };
    this.events = {
      send: (name, data) => this.#sendEvent(name, data),
      on: (name, fn) => this.#events.on(name, fn as (event: RoomEvent<string, unknown, Fields>) => void),
    };
    if (options?.user) this.#setUser(options.user);
    if (options?.state) this.#setState(options.state);
    this.#made = true;
  }

  get others(): readonly Member<Fields>[] {
    return this.#others;
  }

  get count(): number {
    return this.#others.length + this.#unlisted + (this.#listed ? 1 : 0);
  }

  get status(): Status {
    return this.host.status;
  }

  get joined(): boolean {
    return this.#phase === "joined";
  }

  on<Name extends keyof RoomEvents>(name: Name, fn: (event: RoomEvents<Fields>[Name]) => void) {
    return this.#room.on(name, fn);
  }

  latency(): number | null {
    return this.host.link?.round_trip_ms ?? null;
  }

  leave(): void {
    if (this.#phase === "ended") return;
    const { link } = this.host;
    const told = link !== null && (this.#phase === "joining" || this.#phase === "syncing" || this.#phase === "joined");
    if (told) {
      if (this.#phase === "joining") link.answered();
      link.send({ type: "leave", room: this.name });
    }
    this.#end("closed", told);
  }

  // What the client tells the room.

  /** There is a connection. */
  opened(): void {
    if (this.#phase !== "ended") this.#join();
  }

  /** There is none any more. */
  lost(): void {
    if (this.#phase === "ended") return;
    this.#phase = "away";
    this.#number = null;
    this.#outcome = this.#pages = null;
    this.#diffs = [];
    this.#early = [];
    // A dead socket is noticed late: what was said since the last sign of life did not come.
    this.#lost_at ??= this.#heard_at();
    this.#cancelRejoin();
    this.#cursorPacer.cancel();
    this.#updatePacer.cancel();
  }

  /** Somebody else is this member now. */
  disown(): void {
    this.#token = null;
  }

  /** A token of this tab's, from another page. */
  adopt(resume: Resume): void {
    this.#token = resume.token;
    this.#seen = new Map(Object.entries(resume.seen));
    if (this.#phase === "away") this.#lost_at = resume.seen_at;
  }

  /** What the next page needs to be this member; `null` if it cannot. */
  resume(): Resume | null {
    if (this.#token === null || this.#phase === "ended") return null;
    return { token: this.#token, seen: Object.fromEntries(this.#seen), seen_at: this.#lost_at ?? this.#heard_at() };
  }

  #heard_at(): number {
    return this.host.link?.heard_wall ?? this.host.env.wall();
  }

  tell<Name extends "status" | "lost" | "restored">(name: Name, event: RoomEvents<Fields>[Name]): void {
    this.#room.emit(name, event);
  }

  /** A binary frame for this room. */
  moved(frame: CursorFrame): void {
    if (this.#phase !== "joined") return;
    this.#table.apply(frame.records, (id, sample) => {
      const member = this.#members.get(id);
      if (member) this.#cursors.emit("moved", { member: this.#view(member), ...sample });
    });
  }

  get number(): number | null {
    return this.#number;
  }

  handle(message: RoomMessage): void {
    if (message.type === "joined") return this.#joined(message);
    if (message.type === "error") return this.#error(message);
    if (this.#phase !== "syncing" && this.#phase !== "joined") return;
    switch (message.type) {
      case "snapshot":
        return this.#snapshot(message);
      case "presence":
        if (this.#pages || this.#phase === "syncing") this.#diffs.push(message);
        else this.#diff(message);
        return;
      case "event":
      case "positions":
        if (this.#phase === "syncing") this.#early.push(message);
        else this.#heard(message, this.#members);
        return;
      case "token":
        this.#token = message.token;
        return;
      case "left":
        return this.#end(message.reason ?? "closed", false);
      case "refused":
        this.#dropped(this.#refs.get(message.ref ?? -1) ?? "", message.reason);
        return;
      case "cursors":
        return this.moved({
          full: false,
          number: 0,
          records: message.c.map(([alias, time_ms, x, y]) => ({ alias, time_ms, x, y })),
        });
      case "pressure":
        this.#pressure_ms = message.interval_ms;
        return;
      default:
        // A newer server may say more than is known here.
        message satisfies never;
    }
  }

  // Joining.

  #join(): void {
    const { link, env } = this.host;
    if (!link) return;
    // The colour the server once picked stays, also for a new member.
    const user = this.#self ? { color: this.#self.user.color, ...this.#user } : this.#user;
    const join: Join = { type: "join", room: this.name };
    if (Object.keys(user).length > 0) join.user = user;
    if (this.#stateGiven) join.state = this.#state;
    if (this.#token !== null) {
      join.resume = {
        token: this.#token,
        seen: Object.fromEntries(this.#seen),
        away_ms: Math.max(0, Math.round(env.wall() - (this.#lost_at ?? env.wall()))),
      };
    }
    this.#phase = "joining";
    this.#changed = { user: false, state: false };
    link.send(join);
    link.expect();
  }

  #joined(message: JoinedMessage): void {
    if (this.#phase !== "joining") return;
    this.host.link?.answered();
    const before = this.#self;
    if (before && before.id !== message.self.id && message.reason?.startsWith("token_")) this.#former.add(before.id);
    this.#former.delete(message.self.id);
    this.#phase = "syncing";
    this.#outcome = message;
    this.#number = message.number;
    this.#self = message.self;
    this.#token = message.token;
    this.#refusals = 0;
    this.#version = "";
    this.#pressure_ms = 0;
    this.#table.forgetAliases();
    if (!replays(message)) this.#seen = new Map(Object.entries(message.positions));
  }

  #error({ code, message, retry }: RoomMessage & { type: "error" }): void {
    if (this.#phase === "joining") {
      this.host.link?.answered();
      this.#phase = "refused";
      if (retry) {
        const { env } = this.host;
        const again_ms = wait_ms({ retry: "backoff", move: false, retry_ms: null }, this.#refusals++, 1, env.random());
        this.#cancelRejoin = env.timer(() => this.#join(), again_ms);
      }
    }
    this.#room.emit("error", { code, message });
  }

  #end(reason: "closed" | "kicked" | "superseded", told: boolean): void {
    this.lost();
    this.#phase = "ended";
    this.#token = null;
    this.host.forget(this, told);
    this.#room.emit("ended", { reason });
  }

  // Presence.

  #snapshot(page: Snapshot): void {
    const members = this.#pages?.version === page.version ? [...this.#pages.members, ...page.members] : page.members;
    if (page.more) {
      this.#pages = { ...page, members };
      return;
    }
    this.#pages = null;
    this.#version = page.version;
    this.#unlisted = page.unlisted ?? 0;
    this.#listed = false;
    const before = this.#members;
    const changes = this.#take(members, (others) => applySnapshot(before, others));
    const listed = new Set(members.map(({ id }) => id));
    for (const id of this.#former) if (!listed.has(id)) this.#former.delete(id);

    const outcome = this.#outcome;
    this.#outcome = null;
    this.#phase = "joined";
    this.#lost_at = null;
    const initial = outcome !== null && !this.#known;
    this.#apply(changes, initial);
    const diffs = this.#diffs;
    this.#diffs = [];
    for (const diff of diffs) this.#diff(diff);
    if (!outcome) return;

    // Senders that left meanwhile are still told by name.
    const early = this.#early;
    this.#early = [];
    for (const message of early) this.#heard(message, new Map([...before, ...this.#members]));
    this.#seeAll(outcome.positions);
    this.#settle(outcome);
  }

  #diff(diff: Presence): void {
    if (!isAfter(diff.version, this.#version)) return;
    this.#version = diff.version;
    const { unlisted = this.#unlisted } = diff;
    if (unlisted !== this.#unlisted) {
      this.#unlisted = unlisted;
      this.#room.emit("others", this.#others);
    }
    const changed = [...(diff.joined ?? []), ...(diff.updated ?? [])];
    this.#apply(this.#take(changed, (others) => applyDiff(this.#members, diff.left ?? [], others)), false);
    for (const { id } of diff.left ?? []) this.#former.delete(id);
  }

  /** Sorts out which of `list` are others, and puts those in. */
  #take(list: readonly WireMember[], apply: (others: WireMember[]) => [Members, Change[]]): Change[] {
    const others: WireMember[] = [];
    for (const member of list) {
      // Also the own alias: it may have been another's before.
      this.#table.announce(member.alias, member.id);
      // Not away: somebody has it, another page of ours or not.
      if (!member.away) this.#former.delete(member.id);
      if (member.id === this.#self?.id) [this.#self, this.#listed] = [member, true];
      else if (!this.#former.has(member.id)) others.push(member);
    }
    const [members, changes] = apply(others);
    this.#members = members;
    return changes;
  }

  #apply(changes: Change[], initial: boolean): void {
    for (const { type, member } of changes) if (type === "left") this.#table.remove(member.id, member.alias);
    if (changes.length > 0) {
      this.#others = inOrder(this.#members.values()).map((member) => this.#view(member));
      for (const change of changes) this.#tellChange(change, initial);
      this.#room.emit("others", this.#others);
    }
    if (this.#cursorWaits && this.count > 1) this.#cursorPacer.request();
  }

  #tellChange(change: Change, initial: boolean): void {
    const member = this.#view(change.member);
    switch (change.type) {
      case "joined":
        return this.#presence.emit("joined", { member, initial });
      case "updated":
        return this.#presence.emit("updated", { member, before: this.#view(change.before) });
      case "left":
        return this.#presence.emit("left", { member, reason: change.reason });
      default:
        assertNever(change);
    }
  }

  /** The list is complete and everything missed was told. */
  #settle(outcome: JoinedMessage): void {
    if (this.#phase !== "joined") return;
    const first = !this.#known;
    this.#known = true;
    if (this.#changed.user || this.#changed.state) this.#updatePacer.request();
    if (this.#cursor) {
      this.#cursorWaits = true;
      this.#cursorPacer.request();
    }
    if (first) this.#room.emit("ready", {});
    if (outcome.outcome === "recovered") this.#room.emit("recovered", {});
    else if (outcome.outcome === "rebuilt" || !first) {
      // New without having asked to be the old one: that one is somebody else's.
      const reason: RebuiltReason = outcome.reason ?? "superseded";
      this.#room.emit("rebuilt", { reason });
    }
  }

  /** The same object for a member that did not change. */
  #view(member: WireMember): Member<Fields> {
    let view = this.#views.get(member);
    if (!view) this.#views.set(member, (view = publicMember(member)));
    return view;
  }

  // The own member.

  #setState(change: Fields): boolean {
    const text = toText(() => ({ ...this.#state, ...change }));
    const limit = this.host.limits.state_bytes;
    if (text === null) return this.#refuse("the state is not JSON, or nested too deep");
    if (size(text) > limit) return this.#refuse(`the state is larger than ${limit} bytes`);
    if (this.#phase === "ended") return this.#refuse(OVER);
    if (this.#stateGiven && text === JSON.stringify(this.#state)) return true;
    this.#state = JSON.parse(text) as Fields;
    this.#stateGiven = true;
    this.#changed.state = true;
    if (this.#phase === "joined") this.#updatePacer.request();
    return true;
  }

  #setUser(change: Partial<User>): boolean {
    const user = toUser(() => change ?? {});
    if (!user) return this.#refuse("the user's id and name are texts of at most 256 bytes, the color a number");
    if (this.#phase === "ended") return this.#refuse(OVER);
    this.#user = { ...this.#user, ...user };
    this.#changed.user = true;
    if (this.#phase === "joined") this.#updatePacer.request();
    return true;
  }

  #refuse(message: string): false {
    const tell = () => this.#room.emit("error", { code: "bad_state", message });
    // To a room that is only being made nobody can listen yet.
    if (this.#made) tell();
    else this.host.env.timer(tell, 0);
    return false;
  }

  #sendUpdate(): void {
    const { link } = this.host;
    if (!link || this.#phase !== "joined") return;
    const { user, state } = this.#changed;
    this.#changed = { user: false, state: false };
    const whole = { ...this.#self?.user, ...this.#user };
    if (user || state) {
      link.send({ type: "update", room: this.name, ...(user && { user: whole }), ...(state && { state: this.#state }) });
    }
  }

  // Cursors.

  #setCursor(x: number, y: number): void {
    const position = sample(this.host.env, x, y);
    if (!position || this.#phase === "ended") return;
    this.#cursor = position;
    this.#cursorWaits = true;
    if (this.#phase === "joined" && this.count > 1) this.#cursorPacer.request();
  }

  #sendCursor(): void {
    const { link, binary } = this.host;
    const cursor = this.#cursor;
    if (!link || !cursor || !this.#cursorWaits || this.#phase !== "joined" || this.#number === null) return;
    // Nobody to see it; it goes when somebody comes.
    if (this.count < 2) return;
    if (link.buffered > CURSOR_BUFFER_BYTES) return this.#cursorPacer.request();
    this.#cursorWaits = false;
    if (binary) link.sendBytes(encodeCursor(this.#number, [cursor]));
    else link.send({ type: "cursor", room: this.name, t: cursor.time_ms, x: cursor.x, y: cursor.y });
  }

  #positions(): readonly CursorEvent<Fields>[] {
    const all: CursorEvent<Fields>[] = [];
    for (const [id, position] of this.#table.positions) {
      const member = this.#members.get(id);
      if (member) all.push({ member: this.#view(member), ...position });
    }
    return all;
  }

  // Events.

  #sendEvent(name: string, data: unknown): boolean {
    const { link, limits } = this.host;
    if (!link || this.#phase !== "joined") return this.#dropped(name, "not_connected");
    if (typeof name !== "string" || !name || name !== whole(name) || size(name) > EVENT_NAME_BYTES) return this.#dropped(name, "bad_name");
    const json = toText(() => data ?? null);
    if (json === null) return this.#dropped(name, "bad_data");
    const ref = ++this.#ref;
    const text = `{"type":"event","room":${JSON.stringify(this.name)},"name":${JSON.stringify(name)},"data":${json},"ref":${ref}}`;
    if (size(text) > limits.event_bytes) return this.#dropped(name, "too_big");
    if (link.buffered > EVENT_BUFFER_BYTES) return this.#dropped(name, "slow_link");
    this.#refs.set(ref, name);
    this.#refs.delete(ref - REFS_MAX);
    link.sendText(text);
    return true;
  }

  #dropped(name: string, reason: DropReason): false {
    this.#room.emit("dropped", { name, reason });
    return false;
  }

  #heard(message: EventMessage | PositionsMessage, members: Members): void {
    if (message.type === "event") this.#event(message, members);
    else this.#seeAll(message.positions);
  }

  #event({ name, data, from, at: [origin, n] }: EventMessage, members: Members): void {
    if (!this.#see(origin, n)) return;
    const member = from === this.#self?.id ? this.#self : members.get(from);
    this.#events.emit(name, {
      name,
      data,
      from,
      member: member ? this.#view(member) : null,
      self: from === this.#self?.id || this.#former.has(from),
    });
  }

  #seeAll(positions: Positions): void {
    for (const [origin, n] of Object.entries(positions)) this.#see(origin, n);
  }

  /** Whether it is new; if so it counts as seen. */
  #see(origin: string, n: string): boolean {
    const seen = this.#seen.get(origin);
    if (seen !== undefined && !isAfter(n, seen)) return false;
    this.#seen.delete(origin);
    this.#seen.set(origin, n);
    if (this.#seen.size > ORIGINS_MAX) this.#seen.delete(this.#seen.keys().next().value ?? "");
    return true;
  }
}

/** Whether missed events follow. */
function replays({ outcome, reason }: JoinedMessage): boolean {
  return outcome === "recovered" || reason === "events_lost";
}
