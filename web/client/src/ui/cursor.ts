import type { Member } from "../api";
import type { Point } from "./api";
import { colors, hueOf } from "./color";
import { element, setText, svg } from "./element";
import type { Box } from "./matrix";
import { ownOf } from "./own";
import { nameOf, shown } from "./text";

/** Visible characters of a chat. */
export const CHAT_MAX = 200;
/** Characters of a name; what is wider than its box ends in an ellipsis before that. */
const NAME_MAX = 48;
/** From the tip to the end of what stands below an arrow, about. */
const BELOW_PX = 44;
const BUBBLE_PX = 40;
/** Width of a label, about: reading the real one would have the browser lay out the page in every frame. */
const LABEL_PX = 28;
const CHARACTER_PX = 7.2;
const LABEL_PX_MAX = 180;
const BUBBLE_PX_MAX = 275;

const ARROW = "M3.5 3.2 L8.9 20.6 C9.2 21.6 10.5 21.7 10.9 20.8 L13.6 14.6 C13.7 14.3 14 14 14.3 13.9 L20.6 11.4 C21.6 11 21.5 9.7 20.5 9.4 L4.9 2.1 C4 1.7 3.2 2.3 3.5 3.2 Z";

/** One cursor on the glass. */
export class CursorView {
  readonly element: HTMLElement;
  readonly #arrow = svg("path", { d: ARROW, "stroke-width": "1.8", stroke: "#fff", "stroke-linejoin": "round" });
  readonly #label = element("div", "label");
  readonly #bubble = element("div", "bubble");
  readonly #text: HTMLElement;
  #wide_px = 0;
  #high_px = BELOW_PX;
  #flip = false;
  #lift = false;
  #shift_px = 0;
  /** Where it was drawn last; `null` while it waits for a place. */
  place: Point | null = null;
  /** The position that was drawn last, in the room. */
  point: Point | null = null;
  /** Nothing is left to draw of what came. */
  settled = false;

  /** `mine`: only what this page's own member says. */
  constructor(member: Member, private readonly labels: boolean, mine: boolean) {
    const shade = svg("path", { d: ARROW, "stroke-width": "3.6", stroke: "#000", "stroke-opacity": ".22", fill: "none", "stroke-linejoin": "round" });
    const arrow = svg("svg", { class: "arrow", part: "arrow", viewBox: "0 0 26 28", "aria-hidden": "true" }, shade, this.#arrow);
    this.#label.dir = this.#bubble.dir = "auto";
    this.#text = element("div", "text", this.#label, this.#bubble);
    this.element = element("div", "cursor", arrow, element("div", "ring"), this.#text);
    this.element.dataset.member = member.id;
    this.element.classList.add("waiting");
    this.element.classList.toggle("mine", mine);
    this.show(member);
  }

  /** Takes over what changed of its member. */
  show(member: Member): void {
    const { fill, text } = colors(member.user.color);
    const own = ownOf(member);
    const chat = shown(own.chat, CHAT_MAX);
    const name = this.labels && member.user.name ? nameOf(member.user, NAME_MAX) : "";
    this.element.style.setProperty("--hue", String(hueOf(member.user.color)));
    this.element.style.setProperty("--fill", fill);
    this.element.style.setProperty("--ink", text);
    setText(this.#label, name);
    setText(this.#bubble, chat);
    this.#label.hidden = name === "";
    this.#bubble.hidden = chat === "";
    this.#wide_px = Math.max(width_px(name, LABEL_PX_MAX), width_px(chat, BUBBLE_PX_MAX));
    this.#high_px = BELOW_PX + (chat ? BUBBLE_PX : 0);
    const { classList } = this.element;
    classList.toggle("dim", member.away || own.idle === true);
    classList.toggle("touch", own.touch === true);
  }

  /** Shows it at pixels of the layer, of which `box` can be seen. */
  move({ x, y }: Point, box: Box): void {
    if (!this.place) this.element.classList.remove("waiting");
    this.place = { x, y };
    this.element.style.transform = `translate(${round(x)}px,${round(y)}px)`;
    const over_px = Math.max(0, x + this.#wide_px - box.left - box.width);
    const flip = over_px > 0 && x - this.#wide_px > box.left;
    const lift = y + this.#high_px > box.top + box.height && y - this.#high_px > box.top;
    if (flip !== this.#flip) this.element.classList.toggle("flip", (this.#flip = flip));
    // It fits on neither side.
    const shift_px = flip || x > box.left + box.width ? 0 : Math.round(over_px);
    if (shift_px !== this.#shift_px) this.#text.style.transform = (this.#shift_px = shift_px) ? `translateX(${-shift_px}px)` : "";
    if (lift !== this.#lift) this.element.classList.toggle("lift", (this.#lift = lift));
  }

  /** It is somewhere that is not known here. */
  wait(): void {
    this.place = null;
    this.element.classList.add("waiting");
  }
}

function round(px: number): number {
  return Math.round(px * 10) / 10;
}

function width_px(text: string, max: number): number {
  return text === "" ? 0 : Math.min(max, LABEL_PX + CHARACTER_PX * text.length);
}
