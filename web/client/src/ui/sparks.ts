import type { Point } from "./api";
import { element } from "./element";
import type { Layer } from "./layer";
import { bytes, shown } from "./text";

/** The event that a reaction is. */
export const REACTION = "cursormesh.reaction";
export const EMOJI_BYTES_MAX = 32;
/** A reaction rises and is gone, in this time. */
const SPARK_MS = 1_600;
/** At a time, of all and of one member: everybody may send as many as they like. */
const SPARKS_MAX = 60;
const SPARKS_EACH_MAX = 12;
/** Visible characters. */
const EMOJI_MAX = 8;

/** What a reaction's event carries: a text and a position of the room. */
export interface ReactionData extends Point {
  readonly emoji: string;
}

/** What an event's data say; `null` for what is no reaction. */
export function reactionOf(data: unknown): ReactionData | null {
  if (typeof data !== "object" || data === null) return null;
  const { emoji, x, y } = data as Partial<Record<keyof ReactionData, unknown>>;
  if (typeof emoji !== "string" || emoji.length > EMOJI_BYTES_MAX || bytes(emoji) > EMOJI_BYTES_MAX) return null;
  const text = shown(emoji, EMOJI_MAX);
  if (!text || !Number.isFinite(x) || !Number.isFinite(y)) return null;
  return { emoji: text, x: x as number, y: y as number };
}

interface Spark extends Point {
  readonly from: string | null;
  readonly element: HTMLElement;
  readonly timer: ReturnType<typeof setTimeout>;
  drawn: boolean;
}

/** Reactions on the glass. */
export class Sparks {
  readonly #all = new Set<Spark>();

  constructor(
    private readonly layer: Layer,
    /** Where a position of a member is in the window; `null` for this page's own. */
    private readonly toWindow: (point: Point, from: string | null) => Point | null,
  ) {}

  get busy(): boolean {
    return this.#all.size > 0;
  }

  /** `false` for what is no reaction, or one too many. */
  add(data: unknown, from: string | null): boolean {
    const reaction = reactionOf(data);
    if (!reaction || this.#all.size >= SPARKS_MAX || [...this.#all].filter((one) => one.from === from).length >= SPARKS_EACH_MAX) return false;
    const spark: Spark = {
      x: reaction.x,
      y: reaction.y,
      from,
      element: element("div", "spark", element("span", "emoji", reaction.emoji)),
      timer: setTimeout(() => this.#remove(spark), SPARK_MS),
      drawn: false,
    };
    this.#all.add(spark);
    return true;
  }

  /** Puts in its place what is new, or all after the layout `moved`. */
  draw(moved: boolean): void {
    for (const spark of this.#all) {
      if (spark.drawn && !moved) continue;
      const place = this.toWindow(spark, spark.from);
      if (!place) continue;
      const { x, y } = this.layer.at(place);
      spark.element.style.transform = `translate(${x}px,${y}px)`;
      if (!spark.drawn) this.layer.pane.append(spark.element);
      spark.drawn = true;
    }
  }

  stop(): void {
    for (const spark of this.#all) this.#remove(spark);
  }

  #remove(spark: Spark): void {
    clearTimeout(spark.timer);
    this.#all.delete(spark);
    spark.element.remove();
  }
}
