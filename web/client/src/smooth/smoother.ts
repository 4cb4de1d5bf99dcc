import type { Sampled } from "./sample";
import { Track } from "./track";

export type { Sampled };

/**
 * Where a cursor is at a moment: between two samples, `share` of the way from one to the other, 0 to 1.
 * Both are given so that whoever draws may place them in pixels first: their spaces may differ.
 */
export interface Between {
  readonly from: Sampled;
  readonly to: Sampled;
  readonly share: number;
  /** There is more to come: the newest sample has not been reached. */
  readonly moving: boolean;
}

export interface SmootherOptions {
  /** `false`: the newest sample, as it arrives. Defaults to `true`. */
  smooth?: boolean;
  /** From one sample to the next is a jump, not a move. Defaults to never. */
  far?: (from: Sampled, to: Sampled) => boolean;
}

/**
 * Draws cursors between the samples that arrive: smoothly, and some tens of milliseconds late.
 *
 * Pure: all times are the caller's, in milliseconds on one clock that does not go back. Memory is
 * bounded per cursor. How it works and what it costs: docs/smoothing.md.
 */
export class Smoother<Id> {
  readonly #tracks = new Map<Id, Track>();
  readonly #smooth: boolean;
  readonly #far: (from: Sampled, to: Sampled) => boolean;

  constructor(options: SmootherOptions = {}) {
    this.#smooth = options.smooth ?? true;
    this.#far = options.far ?? (() => false);
  }

  /** Takes a sample as it arrives. One that is older than what was there, or is no position, changes nothing. */
  add(id: Id, sample: Sampled, now_ms: number): void {
    if (!Number.isFinite(sample.x) || !Number.isFinite(sample.y)) return;
    const track = this.#tracks.get(id);
    if (track) track.add(sample, now_ms, this.#far);
    else this.#tracks.set(id, new Track(sample, now_ms));
  }

  remove(id: Id): void {
    this.#tracks.delete(id);
  }

  clear(): void {
    this.#tracks.clear();
  }

  /** Where a cursor is to be drawn; `null` for one without a sample. Good until the next call with the same `id`. */
  at(id: Id, now_ms: number): Between | null {
    return this.#tracks.get(id)?.at(now_ms, this.#smooth) ?? null;
  }

  /** Something is to be drawn in a next frame: a position that `at` has not given yet. */
  moving(now_ms: number): boolean {
    for (const track of this.#tracks.values()) {
      track.advance(now_ms);
      if (track.moving) return true;
    }
    return false;
  }
}
