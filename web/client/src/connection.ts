import type { Ending, Environment, PageSignal, Status, Transport } from "./api";
import { wait_ms } from "./backoff";
import { verdict } from "./closing";
import { Ladder, SHORT_LIVED_MS, type Lifetime } from "./ladder";
import { GIVEN_UP, Link } from "./link";
import type { LookAround } from "./nearest";
import type { Nodes } from "./nodes";
import { PROTOCOL, SUBPROTOCOL, SUBPROTOCOL_JSON, assertNever, type ClientMessage, type ServerMessage, type Welcome } from "./protocol";
import type { OpenSocket } from "./transport";
import { openWebSocket } from "./transport/websocket";
import { VERSION } from "./version";

/** A connection that lived this long was good: the next loss starts the back-off anew. */
const STABLE_MS = 2_000;
/** From the first byte to the welcome; longer with every failure, for slow networks. */
const OPEN_MS = 5_000;
const OPEN_MS_STEP = 2_500;
const OPEN_MS_MAX = 15_000;
/** A token function that does not answer within this time failed. */
const TOKEN_MS = 10_000;
/** How long the SockJS connection stays beside the WebSocket that replaces it. */
const HANDOVER_MS = 5_000;
/** A try that is younger than this is left alone when the network changes. */
const RESTART_MS = 500;
/** From the welcome to the look for nearer nodes, at least and at most: not all at once after a node was lost. */
const LOOK_MS = 2_000;
const LOOK_MS_MAX = 8_000;
/** From one look to the next. */
const LOOK_AGAIN_MS = 1_800_000;
/** The first look for WebSocket after the network changed. */
const UPGRADE_SOON_MS = 1_000;

export interface ConnectionSettings {
  nodes: Nodes;
  transports: readonly Transport[];
  token: string | null | (() => string | null | Promise<string | null>);
  json: boolean;
  /** Fetches the part of the client that speaks SockJS. */
  loadSockjs: () => Promise<OpenSocket>;
  /** Fetches the part that finds the nearest node; `null` where nobody wants it. */
  loadNearest: (() => Promise<LookAround>) | null;
}

export interface ConnectionHandlers {
  status(status: Status): void;
  /** Ready for rooms. */
  opened(welcome: Welcome): void;
  /** The same connection is no longer there. */
  lost(): void;
  /** Our members are connected elsewhere: they are not ours to resume. */
  superseded(): void;
  message(message: ServerMessage): void;
  bytes(bytes: ArrayBuffer): void;
}

type State =
  | { is: "idle" }
  /** Gets a token and the transport. */
  | { is: "preparing" }
  /** From the socket to the welcome. */
  | { is: "opening"; link: Link; since: number }
  | { is: "open"; link: Link; welcome: Welcome; since: number }
  /** Until the next try; `firm` where the server asked for the wait. */
  | { is: "waiting"; cancel: () => void; firm: boolean }
  | { is: "closed" };

/** The way to the cluster: one link at a time, and the next one when it ends. */
export class Connection {
  #state: State = { is: "idle" };
  #status: Status;
  readonly #ladder: Ladder;
  /** Failures since the connection was last stable. */
  #tries = 0;
  /** Why there is no connection; `null` before the first failure and while there is one. */
  #reason: Ending | null = null;
  #done = false;
  #cancelLook = () => {};
  /** A WebSocket that is tried beside SockJS, or to a nearer node. */
  #upgrade: { link: Link | null; cancel: () => void } | null = null;
  readonly #retiring = new Set<{ link: Link; cancel: () => void }>();
  readonly #unwatch: () => void;

  constructor(
    private readonly env: Environment,
    private readonly settings: ConnectionSettings,
    private readonly handlers: ConnectionHandlers,
  ) {
    this.#ladder = new Ladder(settings.transports);
    this.#status = { state: "connecting", transport: this.#ladder.transport, fallback: null };
    this.#unwatch = env.watch((signal) => this.#signal(signal));
  }

  get status(): Status {
    return this.#status;
  }

  /** Whether cursors travel as binary frames. */
  get binary(): boolean {
    return this.#state.is === "open" && this.#state.link.transport === "websocket" && !this.settings.json;
  }

  /** The link that rooms may use. */
  get link(): Link | null {
    return this.#state.is === "open" ? this.#state.link : null;
  }

  start(): void {
    this.#prepare();
  }

  /** Now, whatever it was doing. */
  reconnect(): void {
    if (this.#done) return;
    const state = this.#state;
    switch (state.is) {
      case "waiting":
      case "closed":
        if (state.is === "waiting") state.cancel();
        this.#tries = 0;
        return this.#prepare();
      case "open":
        return state.link.doubt();
      case "idle":
      case "preparing":
      case "opening":
        return;
      default:
        assertNever(state);
    }
  }

  /** For good. */
  close(): void {
    if (this.#done) return;
    this.#done = true;
    this.#unwatch();
    const state = this.#state;
    if (state.is === "waiting") state.cancel();
    if (state.is === "opening" || state.is === "open") state.link.drop(1000, "done");
    this.#dropOthers();
    this.#closed({ code: null, why: "done", text: "" });
  }

  #prepare(): void {
    const preparing: State = { is: "preparing" };
    this.#state = preparing;
    this.#tell(
      this.#reason
        ? { state: "reconnecting", attempt: this.#tries + 1, retry_ms: 0, reason: this.#reason, ...this.#how() }
        : { state: "connecting", ...this.#how() },
    );
    const transport = this.#ladder.transport;
    const ready = (open: OpenSocket, token: string | null) => {
      if (this.#state !== preparing) return;
      this.#state = { is: "opening", link: this.#open(open, transport, token), since: this.env.now() };
    };
    const failed = (why: "failed" | "token", error: unknown) => {
      if (this.#state !== preparing) return;
      this.#retry({ code: null, why, text: error instanceof Error ? error.message : String(error) }, { transport, lived_ms: null, abnormal: true });
    };
    this.#token((token) => {
      if (transport === "websocket") ready(openWebSocket, token);
      else this.settings.loadSockjs().then((open) => ready(open, token), (error) => failed("failed", error));
    }, (error) => failed("token", error));
  }

  /** A fresh token, at once where it is a plain value. */
  #token(use: (token: string | null) => void, failed: (error: unknown) => void): void {
    const { token } = this.settings;
    if (typeof token !== "function") return use(token);
    let over = false;
    const once = (then: () => void) => {
      if (over) return;
      over = true;
      cancel();
      then();
    };
    const cancel = this.env.timer(() => once(() => failed(new Error("the token function does not answer"))), TOKEN_MS);
    new Promise<string | null>((resolve) => resolve(token())).then(
      (value) => once(() => use(value)),
      (error) => once(() => failed(error)),
    );
  }

  #open(open: OpenSocket, transport: Transport, token: string | null): Link {
    const link: Link = new Link(
      this.env,
      (events) => open(this.env, this.settings.nodes.current, this.#protocol(transport), events),
      hello(token),
      Math.min(OPEN_MS + OPEN_MS_STEP * this.#tries, OPEN_MS_MAX),
      {
        welcome: (welcome) => this.#opened(link, welcome),
        message: (message) => this.handlers.message(message),
        bytes: (bytes) => this.handlers.bytes(bytes),
        ended: (ending, lifetime) => this.#retry(ending, lifetime),
      },
    );
    return link;
  }

  #protocol(transport: Transport): string {
    return this.settings.json || transport === "sockjs" ? SUBPROTOCOL_JSON : SUBPROTOCOL;
  }

  #opened(link: Link, welcome: Welcome): void {
    this.#state = { is: "open", link, welcome, since: this.env.now() };
    this.#reason = null;
    this.settings.nodes.learn(welcome);
    this.#tell({ state: "connected", node: welcome.node, region: welcome.region, ...this.#how() });
    if (this.#ladder.wants_upgrade) this.#planUpgrade(this.#ladder.upgrade_ms());
    this.#planLook(link, welcome.node, LOOK_MS + (LOOK_MS_MAX - LOOK_MS) * this.env.random());
    this.handlers.opened(welcome);
  }

  /** A try or a connection ended. */
  #retry(ending: Ending, lifetime: Lifetime): void {
    const was = this.#state;
    if (was.is === "open" && this.env.now() - was.since >= STABLE_MS) this.#tries = 0;
    // A token function that fails says nothing about the transport or the node.
    const tried = this.#ladder.transport;
    if (ending.why !== "token") this.#ladder.ended(lifetime);
    this.#dropOthers();
    if (was.is === "open") this.handlers.lost();
    if (ending.code === 4409) this.handlers.superseded();

    const next = verdict(ending.code, ending.text);
    if (lifetime.looked) next.retry = "at_once";
    if (next.retry === "never" || (next.retry === "token" && typeof this.settings.token !== "function")) {
      return this.#closed(ending);
    }
    // Back from SockJS it is WebSocket's turn on the same node: in step with a list of nodes the two
    // would never meet some of them.
    const handed_back = tried === "sockjs" && this.#ladder.transport !== tried;
    if (next.move && ending.why !== "token" && !handed_back) this.settings.nodes.move();
    const retry_ms = wait_ms(next, this.#tries, this.settings.nodes.count, this.env.random());
    this.#reason = ending;
    const attempt = ++this.#tries;
    const cancel = this.env.timer(() => this.#prepare(), retry_ms);
    this.#state = { is: "waiting", cancel, firm: next.retry_ms !== null || next.retry === "minute" };
    this.#tell({ state: "reconnecting", attempt, retry_ms, reason: ending, ...this.#how() });
  }

  #closed(reason: Ending): void {
    this.#state = { is: "closed" };
    this.#reason = null;
    this.#tell({ state: "closed", reason, ...this.#how() });
  }

  #signal(signal: PageSignal): void {
    switch (signal) {
      case "visible":
      case "show":
        return this.#wake();
      case "online":
        this.#ladder.network_changed(this.#state.is === "open");
        this.#restart();
        this.#wake();
        if (this.#ladder.wants_upgrade && this.#upgrade && !this.#upgrade.link) this.#planUpgrade(UPGRADE_SOON_MS);
        return;
      case "offline":
        return this.link?.probe(false);
      case "hidden":
      case "hide":
        return;
      default:
        assertNever(signal);
    }
  }

  /** Somebody looks, or there is a network again: what waits need not. */
  #wake(): void {
    const state = this.#state;
    if (state.is === "open") return state.link.doubt();
    if (state.is !== "waiting" || state.firm) return;
    state.cancel();
    this.#tries = 0;
    this.#prepare();
  }

  /** What began on the old network would end with a time-out. */
  #restart(): void {
    const state = this.#state;
    if (state.is !== "opening" || this.env.now() - state.since < RESTART_MS) return;
    state.link.drop(GIVEN_UP, "network changed");
    this.#prepare();
  }

  /** Which nodes are near, and whether to move to one. */
  #planLook(link: Link, node: string, after_ms: number): void {
    const { loadNearest, nodes } = this.settings;
    this.#cancelLook();
    if (!loadNearest || this.link !== link) return;
    this.#cancelLook = this.env.timer(() => {
      loadNearest()
        .then((look) => look(this.env, nodes.current, node))
        .then(({ order, better }) => {
          if (this.link !== link) return;
          nodes.rank(order);
          if (better && link.transport === "websocket") this.#planUpgrade(0, order[0]);
        })
        // Not to be had or not to be asked: the welcome's list has to do.
        .catch(() => {});
      this.#planLook(link, node, LOOK_AGAIN_MS);
    }, after_ms);
  }

  /** `to`: the address of a nearer node, tried once. */
  #planUpgrade(after_ms: number, to?: string): void {
    this.#upgrade?.cancel();
    const upgrade: { link: Link | null; cancel: () => void } = { link: null, cancel: () => {} };
    upgrade.cancel = this.env.timer(
      () => this.#token((token) => this.#upgrade === upgrade && this.#tryUpgrade(upgrade, token, to), () => this.#upgradeFailed(upgrade, to)),
      after_ms,
    );
    this.#upgrade = upgrade;
  }

  /** A WebSocket beside the link that is used takes over once it has lived longer than those that are cut. */
  #tryUpgrade(upgrade: { link: Link | null; cancel: () => void }, token: string | null, to?: string): void {
    let adopted = false;
    const link: Link = new Link(
      this.env,
      (events) => openWebSocket(this.env, to ?? this.settings.nodes.current, this.#protocol("websocket"), events),
      hello(token),
      OPEN_MS,
      {
        welcome: (welcome) => {
          upgrade.cancel = this.env.timer(() => {
            const state = this.#state;
            if (state.is !== "open" || this.#upgrade !== upgrade) return;
            adopted = true;
            this.#upgrade = null;
            this.#ladder.upgraded();
            this.#retire(state.link);
            if (to) this.settings.nodes.choose(to);
            this.handlers.lost();
            this.#opened(link, welcome);
          }, SHORT_LIVED_MS);
        },
        message: (message) => adopted && this.handlers.message(message),
        bytes: (bytes) => adopted && this.handlers.bytes(bytes),
        ended: (ending, lifetime) => (adopted ? this.#retry(ending, lifetime) : this.#upgradeFailed(upgrade, to)),
      },
    );
    upgrade.link = link;
  }

  #upgradeFailed(upgrade: { link: Link | null; cancel: () => void }, to?: string): void {
    if (this.#upgrade !== upgrade) return;
    upgrade.cancel();
    this.#upgrade = null;
    if (!to) this.#planUpgrade(this.#ladder.upgrade_ms());
  }

  /** The old link stays open, unheard, until its members have moved to the new one. */
  #retire(link: Link): void {
    link.mute();
    const entry = { link, cancel: () => {} };
    entry.cancel = this.env.timer(() => {
      this.#retiring.delete(entry);
      link.drop(GIVEN_UP, "moved");
    }, HANDOVER_MS);
    this.#retiring.add(entry);
  }

  #dropOthers(): void {
    this.#cancelLook();
    this.#upgrade?.cancel();
    this.#upgrade?.link?.drop(1000, "not needed");
    this.#upgrade = null;
    for (const entry of this.#retiring) {
      entry.cancel();
      entry.link.drop(GIVEN_UP, "moved");
    }
    this.#retiring.clear();
  }

  #how(): { transport: Transport; fallback: string | null } {
    const transport = this.#state.is === "open" ? this.#state.link.transport : this.#ladder.transport;
    return { transport, fallback: this.#ladder.fallback };
  }

  #tell(status: Status): void {
    this.#status = status;
    this.handlers.status(status);
  }
}

function hello(token: string | null): ClientMessage {
  // A token that is undefined is left out.
  return { type: "hello", client: `cursormesh-js/${VERSION}`, protocol: PROTOCOL, token: token ?? undefined };
}
