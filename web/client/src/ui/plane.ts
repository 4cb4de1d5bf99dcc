import type { Coordinates, Point } from "./api";
import { Anchors } from "./anchors";
import { apply } from "./matrix";
import { decode, encode, isNowhere } from "./slots";
import { type Surface, elementSurface, isPage, pageSurface } from "./surface";

/** An anchor in use. */
export interface Anchor {
  readonly slot: number;
  readonly element: Element;
}

/**
 * The plane that a room's positions lie in, as this screen shows it: between positions and CSS pixels of
 * the window. What is read of the page's layout is kept until `changed()`.
 */
export class Plane {
  readonly anchors: Anchors | null;
  #surfaces = new Map<Element, Surface | null>();

  constructor(
    readonly container: Element,
    private readonly coordinates: Coordinates,
    selector: string,
  ) {
    this.anchors = coordinates === "content" ? new Anchors(container, selector) : null;
  }

  /** The layout has to be read again. */
  changed(): void {
    this.#surfaces = new Map();
  }

  /** The container; `null` while it is not drawn. */
  get surface(): Surface | null {
    return this.#surface(this.container);
  }

  /** Where a position is in the window; `null` for nowhere, and while its anchor is not known. */
  toWindow(point: Point, anchorOf: (slot: number) => string | undefined): Point | null {
    const { surface, coordinates } = this;
    if (!surface || isNowhere(point)) return null;
    if (coordinates === "pixels") return apply(surface.matrix, point);
    if (coordinates !== "content") return finite(apply(surface.matrix, coordinates.toScreen(point)));
    const found = decode(point);
    if (!found) return null;
    if (found.slot === 0) return inContent(surface, found);
    const name = anchorOf(found.slot);
    const element = name === undefined ? null : this.anchors?.find(name);
    const anchor = element ? this.#surface(element) : null;
    return anchor && inContent(anchor, found);
  }

  /** The other way, relative to `anchor` if there is one. */
  toRoom(client: Point, anchor: Anchor | null): Point | null {
    const surface = anchor ? this.#surface(anchor.element) : this.surface;
    if (!surface) return null;
    const local = apply(surface.inverse, client);
    const { coordinates } = this;
    if (coordinates === "pixels") return local;
    if (coordinates !== "content") return finite(coordinates.toRoom(local));
    const { left, top, width, height } = surface.content;
    return encode(anchor?.slot ?? 0, { x: (local.x - left) / width, y: (local.y - top) / height });
  }

  #surface(element: Element): Surface | null {
    let surface = this.#surfaces.get(element);
    if (surface === undefined) {
      surface = isPage(element) ? pageSurface(element.ownerDocument) : elementSurface(element);
      this.#surfaces.set(element, surface);
    }
    return surface;
  }
}

function inContent({ matrix, content }: Surface, { x, y }: Point): Point | null {
  return finite(apply(matrix, { x: content.left + x * content.width, y: content.top + y * content.height }));
}

/** The page's own functions, and strangers' numbers, may give anything. */
function finite({ x, y }: Point): Point | null {
  return Math.abs(x) < 1e7 && Math.abs(y) < 1e7 ? { x, y } : null;
}
