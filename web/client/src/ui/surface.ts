import { type Box, type Matrix, IDENTITY, apply, intersect, invert, multiply } from "./matrix";

/**
 * What an element is on the screen, read once and good until something scrolls or changes its size.
 *
 * `matrix` leads from CSS pixels within the element, from the top left corner of what is visible of its
 * content (inside the border), to CSS pixels of the window.
 */
export interface Surface {
  readonly matrix: Matrix;
  readonly inverse: Matrix;
  /** Of what is visible inside the border. */
  readonly width: number;
  readonly height: number;
  /** The whole content, seen from the visible top left corner: negative where it is scrolled. */
  readonly content: Box;
  /** What the elements around it leave to be seen, in the window. */
  readonly clip: Box;
}

/** Layout sizes are whole pixels, rectangles are not: less than this is rounding, more is `zoom`. */
const ROUNDING_PX = 2;

/** Whether an element stands for the whole page. */
export function isPage(element: Element): boolean {
  return element === element.ownerDocument.documentElement || element === element.ownerDocument.body;
}

/** The whole page, as the window shows it. */
export function pageSurface(document: Document): Surface {
  const page = document.scrollingElement ?? document.documentElement;
  const window = document.defaultView;
  const width = page.clientWidth;
  const height = page.clientHeight;
  const clip = { left: 0, top: 0, width: window?.innerWidth ?? width, height: window?.innerHeight ?? height };
  return surface(IDENTITY, width, height, contentOf(page, width, height), clip);
}

/** An element; `null` where it is not drawn, or falls on a line. */
export function elementSurface(element: Element): Surface | null {
  const rect = element.getBoundingClientRect();
  if (rect.width <= 0 || rect.height <= 0) return null;
  const { linear, clip } = around(element);
  const html = element instanceof HTMLElement;
  const border = { width: html ? element.offsetWidth : rect.width, height: html ? element.offsetHeight : rect.height };
  const matrix = placed(linear, border, rect);
  const inset = html ? { x: element.clientLeft, y: element.clientTop } : { x: 0, y: 0 };
  const origin = apply(matrix, inset);
  const inner = { ...matrix, e: origin.x, f: origin.y };
  // Inline boxes say 0.
  const width = (html && element.clientWidth) || border.width;
  const height = (html && element.clientHeight) || border.height;
  if (!invert(inner)) return null;
  return surface(inner, width, height, contentOf(element, width, height), clip);
}

function surface(matrix: Matrix, width: number, height: number, content: Box, clip: Box): Surface {
  return { matrix, inverse: invert(matrix) ?? IDENTITY, width, height, content, clip };
}

/** Of an element that does not scroll, what sticks out of it is not counted: it differs between screens. */
function contentOf(element: Element, width: number, height: number): Box {
  const style = getComputedStyle(element);
  const scrolls = element === element.ownerDocument.scrollingElement || cuts(style);
  const wide = scrolls ? Math.max(width, element.scrollWidth) : width;
  const high = scrolls ? Math.max(height, element.scrollHeight) : height;
  // In right-to-left text the content grows to the left, and `scrollLeft` is negative.
  const start = style.direction === "rtl" ? width - wide : 0;
  return { left: start - element.scrollLeft, top: -element.scrollTop, width: wide, height: high };
}

/**
 * From an element's border box to the window. Whatever moves it, the middle of the box is the middle of
 * the rectangle that the browser gives; so only what turns and scales it has to be known.
 */
function placed(linear: Matrix, { width, height }: { width: number; height: number }, rect: DOMRect): Matrix {
  const wide = Math.abs(linear.a) * width + Math.abs(linear.c) * height;
  const high = Math.abs(linear.b) * width + Math.abs(linear.d) * height;
  const off = Math.abs(rect.width - wide) + Math.abs(rect.height - high);
  const zoom = off > ROUNDING_PX ? (rect.width + rect.height) / (wide + high) : 1;
  const matrix = { ...linear, a: linear.a * zoom, b: linear.b * zoom, c: linear.c * zoom, d: linear.d * zoom };
  if (matrix.b === 0 && matrix.c === 0 && matrix.a > 0 && matrix.d > 0) return { ...matrix, e: rect.left, f: rect.top };
  const middle = apply({ ...matrix, e: 0, f: 0 }, { x: width / 2, y: height / 2 });
  return { ...matrix, e: rect.left + rect.width / 2 - middle.x, f: rect.top + rect.height / 2 - middle.y };
}

/** What the element and those around it turn, scale and cut off. */
function around(element: Element): { linear: Matrix; clip: Box } {
  const view = element.ownerDocument.defaultView;
  let linear = IDENTITY;
  let clip: Box = { left: 0, top: 0, width: view?.innerWidth ?? 0, height: view?.innerHeight ?? 0 };
  // What is fixed to the window is not cut off by what it stands in.
  let fixed = false;
  for (let one: Element | null = element; one; one = parentOf(one)) {
    const style = getComputedStyle(one);
    linear = multiply(transformOf(style), linear);
    if (one !== element && !fixed && !isPage(one) && cuts(style)) clip = intersect(clip, one.getBoundingClientRect());
    fixed ||= style.position === "fixed";
  }
  return { linear, clip };
}

/** In the tree as it is drawn: out of slots and shadow roots. */
function parentOf(element: Element): Element | null {
  if (element.assignedSlot) return element.assignedSlot;
  if (element.parentElement) return element.parentElement;
  const root = element.getRootNode();
  return root instanceof ShadowRoot ? root.host : null;
}

function cuts(style: CSSStyleDeclaration): boolean {
  return style.overflowX !== "visible" || style.overflowY !== "visible";
}

/** What `transform`, `rotate` and `scale` do to directions and lengths. */
function transformOf(style: CSSStyleDeclaration): Matrix {
  if (style.transform === "none" && style.rotate === "none" && style.scale === "none") return IDENTITY;
  let { a, b, c, d } = new DOMMatrixReadOnly(style.transform === "none" ? undefined : style.transform);
  let matrix: Matrix = { a, b, c, d, e: 0, f: 0 };
  if (style.scale && style.scale !== "none") {
    const [x = 1, y = x] = style.scale.split(" ").map(Number);
    matrix = multiply({ ...IDENTITY, a: x, d: y }, matrix);
  }
  const turn = /^(-?[\d.e-]+)deg$/.exec(style.rotate ?? "")?.[1];
  if (turn !== undefined) {
    ({ a, b, c, d } = new DOMMatrixReadOnly().rotate(Number(turn)));
    matrix = multiply({ a, b, c, d, e: 0, f: 0 }, matrix);
  }
  return matrix;
}
