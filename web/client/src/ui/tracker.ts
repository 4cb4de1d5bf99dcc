import type { Room } from "../api";
import type { Point } from "./api";
import { setOwn } from "./own";
import type { Anchor, Plane } from "./plane";
import { NOWHERE, Slots } from "./slots";
import { isPage } from "./surface";

/** A tap is shown for at least this long; positions in between are not kept on the way. */
const TAP_MS = 350;
/** The anchor changes at most this often: everyone is told. */
const ANCHOR_MS = 250;

/** Sends where this page's pointer is in a container: nowhere once it is gone. */
export class Tracker {
  readonly #stop = new AbortController();
  readonly #slots = new Slots();
  #hidden = false;
  #touch = false;
  /** Where the pointer is in the window. */
  #client: Point | null = null;
  #target: Element | null = null;
  #sent: Point | null = null;
  #anchor: (Anchor & { readonly name: string }) | null = null;
  #anchored_at = -Infinity;
  #lifting: ReturnType<typeof setTimeout> | undefined;
  #settling: ReturnType<typeof setTimeout> | undefined;

  /** `moved` is told when the own pointer moved in the window. */
  constructor(
    private readonly room: Room,
    private readonly plane: Plane,
    private readonly moved: () => void,
  ) {
    const { container } = plane;
    const page = isPage(container);
    const document = container.ownerDocument;
    const window = document.defaultView;
    const inside: EventTarget = page ? document : container;
    const options = { passive: true, capture: true, signal: this.#stop.signal };
    const on = (target: EventTarget | null, names: string, fn: (event: PointerEvent) => void) => {
      for (const name of names.split(" ")) target?.addEventListener(name, (event) => fn(event as PointerEvent), options);
    };
    on(inside, "pointerdown pointermove", (event) => this.#pointer(event));
    on(document, "pointerup pointercancel", (event) => event.pointerType === "touch" && this.#lift());
    // Not captured: only when the container itself is left, not what is in it.
    (page ? document.documentElement : container).addEventListener(
      "pointerleave",
      (event) => (event as PointerEvent).pointerType !== "touch" && this.#gone(),
      { passive: true, signal: this.#stop.signal },
    );
    // Captured: elements that lose the focus tell the window, too.
    on(window, "blur", (event) => event.target === window && this.#gone());
    on(document, "visibilitychange", () => document.visibilityState === "hidden" && this.#gone());
  }

  /** Where the own cursor is in the room; `null` for nowhere. */
  get position(): Point | null {
    return this.#sent;
  }

  /** The same in the window, also while it is hidden. */
  get client(): Point | null {
    return this.#client;
  }

  /** The name of an own slot. */
  anchorOf(slot: number): string | undefined {
    return this.#anchor?.slot === slot ? this.#anchor.name : undefined;
  }

  get hidden(): boolean {
    return this.#hidden;
  }

  set hidden(hidden: boolean) {
    if (hidden === this.#hidden) return;
    this.#hidden = hidden;
    this.update();
  }

  /** What is under the pointer moved. */
  update(scrolled = false): void {
    if (scrolled && this.#client) {
      this.#target = this.plane.container.ownerDocument.elementFromPoint(this.#client.x, this.#client.y) ?? this.#target;
    }
    this.#send();
  }

  stop(): void {
    this.#stop.abort();
    this.#gone();
    setOwn(this.room, { anchor: undefined, touch: undefined });
  }

  #pointer(event: PointerEvent): void {
    if (!event.isPrimary) return;
    clearTimeout(this.#lifting);
    this.#setTouch(event.pointerType === "touch");
    this.#client = { x: event.clientX, y: event.clientY };
    this.#target = event.target instanceof Element ? event.target : null;
    this.#send();
    this.moved();
  }

  #lift(): void {
    clearTimeout(this.#lifting);
    this.#lifting = setTimeout(() => this.#gone(), TAP_MS);
  }

  #setTouch(touch: boolean): void {
    if (touch === this.#touch) return;
    this.#touch = touch;
    setOwn(this.room, { touch: touch || undefined });
  }

  #gone(): void {
    clearTimeout(this.#lifting);
    clearTimeout(this.#settling);
    this.#client = null;
    this.#send();
    this.moved();
  }

  #send(): void {
    const point = this.#hidden || !this.#client ? null : this.#place(this.#client);
    if (!point && !this.#sent) return;
    this.#sent = point;
    this.room.cursors.set(point?.x ?? NOWHERE.x, point?.y ?? NOWHERE.y);
  }

  #place(client: Point): Point | null {
    this.#chooseAnchor();
    return this.plane.toRoom(client, this.#anchor) ?? this.plane.toRoom(client, null);
  }

  #chooseAnchor(): void {
    const { anchors } = this.plane;
    if (!anchors || !this.#target) return;
    const found = anchors.around(this.#target);
    if (found?.element === this.#anchor?.element && found?.name === this.#anchor?.name) return;
    const left_ms = this.#anchored_at + ANCHOR_MS - performance.now();
    if (left_ms > 0 && this.#anchor?.element.isConnected) {
      clearTimeout(this.#settling);
      this.#settling = setTimeout(() => this.#send(), left_ms);
      return;
    }
    this.#anchored_at = performance.now();
    this.#anchor = found && { ...found, slot: this.#slots.of(found.name) };
    if (this.#anchor) setOwn(this.room, { anchor: [this.#anchor.slot, this.#anchor.name] });
  }
}
