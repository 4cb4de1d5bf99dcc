import { NAME_MAX } from "./slots";

/** What is an anchor where nothing else is said. */
export const ANCHORS = "[data-cursor-anchor]";
/** A name that is not found is looked for again after this long; pages change. */
const AGAIN_MS = 500;

/**
 * The elements of a container that positions may be relative to, by name: the attribute
 * `data-cursor-anchor`, else the id, else what kind of element it is. Of several with one name the first
 * counts.
 */
export class Anchors {
  #found = new Map<string, Element>();
  #looked_at = -Infinity;

  /** Throws where `selector` is none. */
  constructor(
    private readonly container: Element,
    private readonly selector: string,
  ) {
    container.matches(selector);
  }

  /** The innermost anchor around `element` that others can find by its name. */
  around(element: Element): { name: string; element: Element } | null {
    for (let one = element.closest(this.selector); one && one !== this.container && this.container.contains(one); ) {
      const name = nameOf(one);
      if (name && this.find(name) === one) return { name, element: one };
      one = one.parentElement?.closest(this.selector) ?? null;
    }
    return null;
  }

  find(name: string): Element | null {
    const found = this.#found.get(name);
    if (found?.isConnected && nameOf(found) === name) return found;
    const now_ms = performance.now();
    if (now_ms - this.#looked_at < AGAIN_MS) return null;
    this.#looked_at = now_ms;
    this.#found = new Map();
    for (const one of this.container.querySelectorAll(this.selector)) {
      const its = nameOf(one);
      if (!this.#found.has(its)) this.#found.set(its, one);
    }
    return this.#found.get(name) ?? null;
  }
}

function nameOf(element: Element): string {
  return (element.getAttribute("data-cursor-anchor") || element.id || element.localName).slice(0, NAME_MAX);
}
