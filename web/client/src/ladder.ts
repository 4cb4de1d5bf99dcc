import type { Transport } from "./api";

/** A socket that dies within this time of opening was let through and then cut. */
export const SHORT_LIVED_MS = 2_000;
const SHORT_LIVED_MAX = 3;
/** Failures to open before the next rung; more once WebSocket has worked here, as then it is rather the node. */
const UNOPENED_MAX = 2;
const UNOPENED_MAX_PROVEN = 4;
/** Waits before WebSocket is tried again beside SockJS: doubling from the first to the last. */
const UPGRADE_MS_FIRST = 30_000;
const UPGRADE_MS_LAST = 300_000;

/** How a socket ended. */
export interface Lifetime {
  transport: Transport;
  /** Milliseconds from its opening to its end; `null` if it never opened, or nothing came through it. */
  lived_ms: number | null;
  /** Cut, not closed with a code that says why. */
  abnormal: boolean;
  /** Found dead when somebody looked again: others do not come back in the same moment. */
  looked?: boolean;
}

/** Which transport to use: WebSocket, and SockJS while that fails. */
export class Ladder {
  #transport: Transport;
  #fallback: string | null = null;
  #unopened = 0;
  #short_lived = 0;
  #proven = false;
  #upgrades = 0;
  readonly #both: boolean;

  constructor(private readonly transports: readonly Transport[]) {
    this.#transport = transports[0] ?? "websocket";
    this.#both = transports.includes("websocket") && transports.includes("sockjs");
  }

  get transport(): Transport {
    return this.#transport;
  }

  /** Why SockJS is in use; `null` while WebSocket is, or where SockJS was asked for. */
  get fallback(): string | null {
    return this.#fallback;
  }

  /** Whether to look for a way back to WebSocket. */
  get wants_upgrade(): boolean {
    return this.#fallback !== null;
  }

  /** Milliseconds until the next look. */
  upgrade_ms(): number {
    return Math.min(UPGRADE_MS_FIRST * 2 ** this.#upgrades++, UPGRADE_MS_LAST);
  }

  ended({ transport, lived_ms, abnormal }: Lifetime): void {
    if (!this.#both) return;
    if (transport === "sockjs") {
      // Neither works, so it is not the transport: WebSocket's turn, one failure from SockJS's.
      if (lived_ms === null && this.#fallback !== null) this.#back(1);
      return;
    }
    if (lived_ms === null) {
      this.#unopened += 1;
      if (this.#unopened >= this.#unopened_max()) this.#fall("WebSocket does not open");
      return;
    }
    this.#unopened = 0;
    if (lived_ms < SHORT_LIVED_MS && abnormal) {
      this.#short_lived += 1;
      if (this.#short_lived >= SHORT_LIVED_MAX) this.#fall("WebSocket breaks right after it opens");
    } else {
      this.#short_lived = 0;
      if (lived_ms >= SHORT_LIVED_MS) this.#proven = true;
    }
  }

  /** WebSocket worked beside SockJS. */
  upgraded(): void {
    this.#proven = true;
    this.#back(0);
    this.#upgrades = 0;
  }

  /** Another network: what was learned no longer counts. What is connected stays as it is. */
  network_changed(connected: boolean): void {
    this.#proven = false;
    this.#upgrades = 0;
    if (!connected) this.#back(0);
  }

  #unopened_max(): number {
    return this.#proven ? UNOPENED_MAX_PROVEN : UNOPENED_MAX;
  }

  #fall(reason: string): void {
    this.#transport = "sockjs";
    this.#fallback = reason;
  }

  #back(to_sockjs: 0 | 1): void {
    this.#transport = this.transports[0] ?? "websocket";
    this.#fallback = null;
    this.#unopened = to_sockjs === 1 ? this.#unopened_max() - 1 : 0;
    this.#short_lived = to_sockjs === 1 ? SHORT_LIVED_MAX - 1 : 0;
  }
}
