import type { Environment } from "./api";

/** Animation frames that do not come for this long (a covered window) are not waited for. */
const FRAME_MS_MAX = 100;
/** Frames are not exact; one that is this early counts. */
const EARLY_MS = 2;

/**
 * Sends the newest of something: with the next animation frame, in a hidden tab with a timer, and
 * never more often than allowed. What was asked for last is always sent.
 */
export class Pacer {
  #cancel: (() => void) | null = null;
  #sent_at = -Infinity;

  /** `flush` sends; `interval_ms` is asked each time. */
  constructor(
    private readonly env: Environment,
    private readonly interval_ms: () => number,
    private readonly flush: () => void,
  ) {}

  request(): void {
    if (!this.#cancel) this.#arm();
  }

  cancel(): void {
    this.#cancel?.();
    this.#cancel = null;
  }

  #arm(): void {
    const due_ms = Math.max(0, this.#sent_at + this.interval_ms() - this.env.now());
    const cancelFrame = this.env.frame(() => this.#fire());
    const cancelTimer = this.env.timer(() => this.#fire(), cancelFrame ? due_ms + FRAME_MS_MAX : due_ms);
    this.#cancel = () => {
      cancelFrame?.();
      cancelTimer();
    };
  }

  #fire(): void {
    this.cancel();
    if (this.env.now() - this.#sent_at < this.interval_ms() - EARLY_MS) return this.#arm();
    this.#sent_at = this.env.now();
    this.flush();
  }
}
