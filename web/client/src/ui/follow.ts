import type { Member, Room, Unsubscribe } from "../api";
import type { Follow, FollowOptions, View } from "./api";
import { reducedMotion } from "./element";
import { sleep, wake } from "./frames";
import { Handlers } from "./handlers";
import { onEnd, ownOf, setOwn } from "./own";
import { elementSurface, isPage, pageSurface } from "./surface";

/** The own view is told at most this often, while somebody follows. */
const VIEW_MS = 100;
/** Of what is left to scroll, what remains after this time is one half. */
const HALF_MS = 70;
/** Keys that scroll. */
const KEYS = new Set(["ArrowUp", "ArrowDown", "ArrowLeft", "ArrowRight", "PageUp", "PageDown", "Home", "End", " "]);

/** Looks where somebody else looks, and tells who follows this page where it looks. */
export class Following implements Follow {
  readonly #handlers = new Handlers<Member | null>();
  readonly #stop = new AbortController();
  readonly #ends: Unsubscribe[];
  readonly #read: () => View | null;
  readonly #show: (view: View) => void;
  #id: string | null = null;
  /** Where scrolling leads. */
  #goal: View | null = null;
  #frame_at = 0;
  #told: View | null = null;
  #telling: ReturnType<typeof setTimeout> | undefined;

  constructor(
    private readonly room: Room,
    private readonly container: Element,
    options: FollowOptions,
  ) {
    this.#read = options.read ?? (() => viewOf(container));
    this.#show = options.show ?? ((view) => this.#scrollTo(view));
    const { signal } = this.#stop;
    const listen = { passive: true, capture: true, signal };
    const inside: EventTarget = isPage(container) ? document : container;
    // By hand: what scrolls here by itself fires none of these.
    for (const name of ["wheel", "touchmove"]) inside.addEventListener(name, () => this.follow(null), listen);
    inside.addEventListener("pointerdown", (event) => onScrollbar(container, event as PointerEvent) && this.follow(null), listen);
    inside.addEventListener("keydown", (event) => KEYS.has((event as KeyboardEvent).key) && !typing(event) && this.follow(null), listen);
    document.addEventListener("scroll", () => this.changed(), listen);
    addEventListener("resize", () => this.changed(), listen);
    this.#ends = [
      room.presence.on("updated", ({ member }) => this.#look(member)),
      room.presence.on("left", ({ member }) => member.id === this.#id && this.follow(null)),
      room.on("others", () => this.changed()),
      onEnd(room, () => this.stop()),
    ];
    this.changed();
  }

  get member(): Member | null {
    return this.room.others.find(({ id }) => id === this.#id) ?? null;
  }

  follow(member: Member | null): void {
    const id = member && this.room.others.some((other) => other.id === member.id) ? member.id : null;
    if (id === this.#id) return;
    this.#id = id;
    this.#goal = null;
    sleep(this.#step);
    setOwn(this.room, { follow: id ?? undefined });
    if (this.member) this.#look(this.member);
    this.#handlers.tell(this.member);
  }

  changed(): void {
    this.#telling ??= setTimeout(() => {
      this.#telling = undefined;
      this.#tellView();
    }, VIEW_MS);
  }

  on(fn: (member: Member | null) => void): Unsubscribe {
    return this.#handlers.on(fn);
  }

  stop(): void {
    this.#stop.abort();
    for (const end of this.#ends) end();
    clearTimeout(this.#telling);
    sleep(this.#step);
    this.#id = null;
    setOwn(this.room, { follow: undefined, view: undefined });
    this.#handlers.clear();
  }

  #tellView(): void {
    const me = this.room.me.member?.id;
    const followed = me !== undefined && this.room.others.some((other) => ownOf(other).follow === me);
    const view = followed ? this.#read() : null;
    if (same(view, this.#told)) return;
    this.#told = view;
    setOwn(this.room, { view: view ?? undefined });
  }

  #look(member: Member): void {
    if (member.id !== this.#id) return;
    const { view } = ownOf(member);
    if (view) this.#show(view);
  }

  #scrollTo(view: View): void {
    this.#goal = view;
    this.#frame_at = performance.now();
    wake(this.#step);
  }

  readonly #step = (now_ms: number): boolean => {
    if (!this.#goal) return false;
    const share = reducedMotion() ? 1 : 1 - 0.5 ** (Math.max(0, now_ms - this.#frame_at) / HALF_MS);
    this.#frame_at = now_ms;
    const [left, top, width, height] = this.#goal;
    const surface = surfaceOf(this.container);
    if (!surface) return false;
    const { content } = surface;
    // The middle of what the other sees comes to the middle of what is seen here.
    const x = content.left + (left + width / 2) * content.width - surface.width / 2;
    const y = content.top + (top + height / 2) * content.height - surface.height / 2;
    const scroller = isPage(this.container) ? document.scrollingElement ?? document.documentElement : this.container;
    const [before_x, before_y] = [scroller.scrollLeft, scroller.scrollTop];
    scroller.scrollBy({ left: part(x, share), top: part(y, share), behavior: "instant" });
    return scroller.scrollLeft !== before_x || scroller.scrollTop !== before_y;
  };
}

/** At least a pixel: less does not scroll. */
function part(px: number, share: number): number {
  return Math.abs(px) < 1 ? 0 : Math.sign(px) * Math.max(1, Math.abs(px) * share);
}

function surfaceOf(container: Element) {
  return isPage(container) ? pageSurface(container.ownerDocument) : elementSurface(container);
}

function viewOf(container: Element): View | null {
  const surface = surfaceOf(container);
  if (!surface) return null;
  const { content, width, height } = surface;
  const fraction = (px: number, of: number) => Math.round((px / of) * 1e4) / 1e4;
  return [fraction(-content.left, content.width), fraction(-content.top, content.height), fraction(width, content.width), fraction(height, content.height)];
}

function same(one: View | null, other: View | null): boolean {
  return one === other || (one !== null && other !== null && one.every((value, at) => value === other[at]));
}

function onScrollbar(container: Element, { target, clientX, clientY }: PointerEvent): boolean {
  const scroller = isPage(container) ? document.documentElement : container;
  if (target !== scroller) return false;
  const { left, top } = isPage(container) ? { left: 0, top: 0 } : scroller.getBoundingClientRect();
  return clientX - left > scroller.clientLeft + scroller.clientWidth || clientY - top > scroller.clientTop + scroller.clientHeight;
}

/** A key that goes into a text does not scroll. */
function typing({ target }: Event): boolean {
  return target instanceof HTMLElement && (target.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(target.tagName));
}
