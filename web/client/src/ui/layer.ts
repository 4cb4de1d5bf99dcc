import type { Point } from "./api";
import { element, shadow } from "./element";
import { type Box, type Matrix, IDENTITY, apply, corners, intersect, invert, isPlain } from "./matrix";
import { LAYER } from "./style";
import { type Surface, isPage } from "./surface";

/**
 * The glass over a container on which cursors are drawn. It hangs at the end of the document, over
 * everything and fixed to the window, and is cut to what can be seen of the container: so the container
 * and its children stay exactly as the page made them.
 */
export class Layer {
  /** What is drawn goes in here, at pixels of `at`. */
  readonly pane = element("div", "pane");
  readonly #host: HTMLElement;
  readonly #glass = element("div", "glass", this.pane);
  readonly #page: boolean;
  /** From the window's pixels to the layer's own: the root element may be scaled or moved itself. */
  #inverse: Matrix = IDENTITY;
  /** What the container is in, of what stands above the page. */
  #top: Element | null = null;
  #box: Box = { left: 0, top: 0, width: 0, height: 0 };

  constructor(private readonly container: Element) {
    this.#page = isPage(container);
    const { host, root } = shadow("cursors", LAYER);
    this.#host = host;
    host.setAttribute("aria-hidden", "true");
    root.append(this.#glass);
    this.attach();
  }

  /** Puts it in the page; again after the page was replaced (`document.write`, some routers). */
  attach(): void {
    if (!this.#host.isConnected) {
      document.documentElement.append(this.#host);
      this.#top = null;
    }
    this.#raise();
  }

  get hidden(): boolean {
    return this.#host.hidden === true;
  }

  set hidden(hidden: boolean) {
    this.#host.hidden = hidden;
  }

  /** What of the layer can be seen, in its own pixels. */
  get box(): Box {
    return this.#box;
  }

  /** Lies over the container as it is now; nothing shows where that is not drawn. */
  fit(surface: Surface | null): void {
    this.#calibrate();
    if (!surface) {
      this.#glass.hidden = true;
      return;
    }
    this.#glass.hidden = false;
    const quad = corners(surface.matrix, surface.width, surface.height).map((point) => this.at(point));
    const window = this.#boxAt(surface.clip);
    const box = this.#page ? window : intersect(window, around(quad));
    this.#box = box;
    const { style } = this.#glass;
    style.transform = `translate(${box.left}px,${box.top}px)`;
    style.width = `${box.width}px`;
    style.height = `${box.height}px`;
    this.pane.style.transform = `translate(${-box.left}px,${-box.top}px)`;
    // Turned or skewed: cut along its own edges.
    const turned = !this.#page && (surface.matrix.b !== 0 || surface.matrix.c !== 0);
    style.clipPath = turned ? `polygon(${quad.map(({ x, y }) => `${x - box.left}px ${y - box.top}px`).join()})` : "";
  }

  /** From the window's pixels to the layer's. */
  at(point: Point): Point {
    return this.#inverse === IDENTITY ? point : apply(this.#inverse, point);
  }

  remove(): void {
    this.#host.remove();
  }

  #boxAt({ left, top, width, height }: Box): Box {
    const one = this.at({ x: left, y: top });
    const other = this.at({ x: left + width, y: top + height });
    return { left: one.x, top: one.y, width: other.x - one.x, height: other.y - one.y };
  }

  /** The host is where the window is, unless the root element has a transform, a filter or a zoom. */
  #calibrate(): void {
    const rect = this.#host.getBoundingClientRect();
    const width = this.#host.offsetWidth;
    const scale = width > 0 && Math.abs(rect.width - width) > 2 ? rect.width / width : 1;
    const matrix = { ...IDENTITY, a: scale, d: scale, e: rect.left, f: rect.top };
    this.#inverse = isPlain(matrix) && matrix.e === 0 && matrix.f === 0 ? IDENTITY : invert(matrix) ?? IDENTITY;
  }

  /** Above a dialog, a popover or a full screen that the container is in. */
  #raise(): void {
    const top = topmost(this.container);
    const host = this.#host;
    if (top === this.#top || typeof host.showPopover !== "function") return;
    this.#top = top;
    try {
      if (host.matches(":popover-open")) host.hidePopover();
      if (!top) return host.removeAttribute("popover");
      host.popover = "manual";
      host.showPopover();
    } catch {
      // Not in the document any more.
    }
  }
}

function topmost(container: Element): Element | null {
  try {
    return container.closest(":modal,:popover-open,:fullscreen");
  } catch {
    return null;
  }
}

function around(points: readonly Point[]): Box {
  const left = Math.min(...points.map(({ x }) => x));
  const top = Math.min(...points.map(({ y }) => y));
  return { left, top, width: Math.max(...points.map(({ x }) => x)) - left, height: Math.max(...points.map(({ y }) => y)) - top };
}
