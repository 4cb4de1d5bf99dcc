import type { CursorEvent, Member, Overlay, Room, RoomEvent, Unsubscribe } from "../api";
import { type Between, Smoother } from "../smooth/smoother";
import type { Point, RenderOptions } from "./api";
import { ANCHORS } from "./anchors";
import { announce } from "./announce";
import { CursorView } from "./cursor";
import { reducedMotion } from "./element";
import { sleep, wake } from "./frames";
import { Layer } from "./layer";
import { onEnd, ownOf } from "./own";
import { Plane } from "./plane";
import { Names, decode, isNowhere } from "./slots";
import { REACTION, Sparks } from "./sparks";
import { Tracker } from "./tracker";
import { watchLayout } from "./watch";

/** More would be told apart by nobody, and cost every frame. */
const CURSORS_MAX = 500;
/** A cursor that goes fades, in less than this; a finger's ripple takes that long. */
const FADE_MS = 600;
/** For people who want little motion cursors step from place to place, this often. */
const STEP_MS = 250;
/** From one sample to the next: farther is a jump. */
const JUMP_PX = 600;

const overlays = new Set<OverlayCore>();

/** The overlay of a room on a container, if there is one. */
export function overlayOf(room: Room, container: Element): OverlayCore | null {
  return overlaysOf(room).find((one) => one.container === container) ?? null;
}

/** All overlays of a room. */
export function overlaysOf(room: Room): OverlayCore[] {
  return [...overlays].filter((one) => one.room === room);
}

/** Draws cursors, what is said beside them, and reactions. */
export class OverlayCore implements Overlay {
  readonly plane: Plane;
  readonly tracker: Tracker | null;
  readonly #layer: Layer;
  readonly #sparks: Sparks;
  readonly #smoother: Smoother<string>;
  readonly #cursors = new Map<string, CursorView>();
  readonly #names = new Names();
  readonly #ends: Unsubscribe[] = [];
  readonly #fading = new Map<CursorView, ReturnType<typeof setTimeout>>();
  /** What this page's own member says, at the own pointer. */
  #mine: CursorView | null = null;
  /** Whose sample is being taken in. */
  #adding = "";
  /** The layout may have changed. */
  #dirty = true;
  #stepped_at = -Infinity;
  #step: ReturnType<typeof setTimeout> | undefined;
  #stopped = false;

  constructor(
    readonly room: Room,
    readonly container: Element,
    private readonly options: RenderOptions,
  ) {
    const jump_px = options.jump ?? JUMP_PX;
    this.plane = new Plane(container, options.coordinates ?? "content", options.anchors ?? ANCHORS);
    this.#smoother = new Smoother({
      smooth: (options.smooth ?? true) && !reducedMotion(),
      far: (from, to) => this.#far(from, to, jump_px),
    });
    this.#layer = new Layer(container);
    this.#sparks = new Sparks(this.#layer, (point, id) => this.#toWindow(point, id));
    this.tracker = (options.track ?? true) ? new Tracker(room, this.plane, () => this.#moveMine()) : null;
    this.#ends.push(
      watchLayout(container, (scrolled) => this.#changed(scrolled)),
      room.cursors.on((cursor) => this.#moved(cursor)),
      room.presence.on("joined", ({ member }) => this.#learn(member)),
      room.presence.on("updated", ({ member }) => this.#learn(member)),
      room.presence.on("left", ({ member }) => this.#left(member)),
      onEnd(room, () => this.stop()),
      room.events.on(REACTION, (event) => this.#react(event)),
      ...((options.announce ?? true) ? [announce(room, typeof options.announce === "object" ? options.announce : {})] : []),
    );
    for (const member of room.others) this.#learn(member);
    for (const cursor of room.cursors.all) this.#moved(cursor);
    overlays.add(this);
    this.showMine();
    wake(this.#draw);
  }

  get hideMine(): boolean {
    return this.tracker?.hidden ?? true;
  }

  set hideMine(hide: boolean) {
    if (this.tracker) this.tracker.hidden = hide;
  }

  get hideOthers(): boolean {
    return this.#layer.hidden;
  }

  set hideOthers(hide: boolean) {
    this.#layer.hidden = hide;
    this.update();
  }

  update(): void {
    this.#changed(true);
  }

  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    overlays.delete(this);
    sleep(this.#draw);
    clearTimeout(this.#step);
    for (const end of this.#ends) end();
    for (const timer of this.#fading.values()) clearTimeout(timer);
    this.tracker?.stop();
    this.#sparks.stop();
    this.#smoother.clear();
    this.#layer.remove();
  }

  /** Where a reaction of this page's goes: at the own cursor, else in the middle of what is visible. */
  get own(): Point | null {
    if (this.tracker?.position) return this.tracker.position;
    const { surface } = this.plane;
    if (!surface) return null;
    const { left, top, width, height } = this.#layer.box;
    return this.plane.toRoom({ x: left + width / 2, y: top + height / 2 }, null);
  }

  /** The own state changed, which no event tells. */
  showMine(): void {
    const { member, state } = this.room.me;
    const shownAs = member && { ...member, state };
    if (!shownAs || !ownOf(shownAs).chat) {
      this.#mine?.element.remove();
      this.#mine = null;
      return;
    }
    if (this.#mine) this.#mine.show(shownAs);
    else this.#layer.pane.append((this.#mine = new CursorView(shownAs, false, true)).element);
    this.#moveMine();
  }

  #moveMine(): void {
    const client = this.tracker?.client;
    if (!this.#mine) return;
    if (client) this.#mine.move(this.#layer.at(client), this.#layer.box);
    else this.#mine.wait();
  }

  #changed(scrolled: boolean): void {
    this.#dirty = true;
    this.plane.changed();
    if (scrolled) this.tracker?.update(true);
    if (this.#cursors.size > 0 || this.#sparks.busy || scrolled) wake(this.#draw);
  }

  #learn(member: Member): void {
    const { anchor } = ownOf(member);
    if (anchor) this.#names.learn(member.id, anchor);
    const cursor = this.#cursors.get(member.id);
    if (!cursor) return;
    cursor.show(member);
    if (cursor.place) cursor.move(cursor.place, this.#layer.box);
    // It may have waited for the name of its anchor.
    cursor.settled = false;
    wake(this.#draw);
  }

  #left({ id }: Member): void {
    this.#gone(id);
    this.#names.forget(id);
  }

  #moved({ member, x, y, time_ms }: CursorEvent): void {
    if (isNowhere({ x, y })) return this.#gone(member.id);
    const cursor = this.#cursors.get(member.id) ?? this.#come(member);
    if (!cursor) return;
    cursor.settled = false;
    this.#adding = member.id;
    this.#smoother.add(member.id, { x, y, time_ms }, performance.now());
    wake(this.#draw);
  }

  #come(member: Member): CursorView | null {
    if (this.#cursors.size >= CURSORS_MAX) return null;
    const cursor = new CursorView(member, this.options.labels ?? true, false);
    this.#cursors.set(member.id, cursor);
    this.#layer.pane.append(cursor.element);
    return cursor;
  }

  #gone(id: string): void {
    const cursor = this.#cursors.get(id);
    // A tap that came and went within a frame is still seen.
    if (cursor && !cursor.place) this.#place(id, cursor, performance.now());
    this.#smoother.remove(id);
    if (!cursor) return;
    this.#cursors.delete(id);
    cursor.element.classList.add("gone");
    const timer = setTimeout(() => {
      this.#fading.delete(cursor);
      cursor.element.remove();
    }, FADE_MS);
    this.#fading.set(cursor, timer);
  }

  #react({ data, from, self }: RoomEvent): void {
    if (!this.#layer.hidden && this.#sparks.add(data, self ? null : from)) wake(this.#draw);
  }

  readonly #draw = (now_ms: number): boolean => {
    if (this.#layer.hidden) return false;
    const moved = this.#dirty;
    if (this.#dirty) {
      this.#dirty = false;
      this.#layer.attach();
      this.#layer.fit(this.plane.surface);
      this.#moveMine();
    }
    this.#sparks.draw(moved);
    const waits = reducedMotion() && this.#waits(now_ms);
    for (const [id, cursor] of this.#cursors) {
      if (waits) moved && this.#again(id, cursor);
      else if (moved || !cursor.settled) this.#place(id, cursor, now_ms);
    }
    if (waits) return false;
    return this.#smoother.moving(now_ms);
  };

  /** Whether the next step of cursors that step is still to come; it comes with a timer. */
  #waits(now_ms: number): boolean {
    const left_ms = this.#stepped_at + STEP_MS - now_ms;
    if (left_ms <= 0) {
      this.#stepped_at = now_ms;
      return false;
    }
    clearTimeout(this.#step);
    this.#step = setTimeout(() => wake(this.#draw), left_ms);
    return true;
  }

  #place(id: string, cursor: CursorView, now_ms: number): void {
    const between = this.#smoother.at(id, now_ms);
    if (!between) return;
    const place = this.#between(between, id);
    cursor.settled = !between.moving && place !== null;
    cursor.point = { x: between.to.x, y: between.to.y };
    if (place) cursor.move(this.#layer.at(place), this.#layer.box);
    else if (!this.#held(between.to, id)) cursor.wait();
  }

  /** Its anchor will be named in a moment: until then it stays where it is. */
  #held(point: Point, id: string): boolean {
    const slot = this.plane.anchors ? decode(point)?.slot : undefined;
    return slot !== undefined && slot > 0 && this.#names.of(id, slot) === undefined;
  }

  /** Where it was, as the layout is now. */
  #again(id: string, cursor: CursorView): void {
    const place = cursor.point && this.#toWindow(cursor.point, id);
    if (place) cursor.move(this.#layer.at(place), this.#layer.box);
  }

  /** Each end in pixels first: they may be relative to different elements. */
  #between({ from, to, share }: Between, id: string): Point | null {
    const end = this.#toWindow(to, id);
    if (share >= 1 || from === to) return end;
    const start = this.#toWindow(from, id);
    if (!start || !end) return start ?? end;
    return { x: start.x + (end.x - start.x) * share, y: start.y + (end.y - start.y) * share };
  }

  #toWindow(point: Point, id: string | null): Point | null {
    return this.plane.toWindow(point, (slot) => (id === null ? this.tracker?.anchorOf(slot) : this.#names.of(id, slot)));
  }

  #far(from: Point, to: Point, jump_px: number): boolean {
    const [start, end] = [this.#toWindow(from, this.#adding), this.#toWindow(to, this.#adding)];
    return !start || !end || Math.hypot(end.x - start.x, end.y - start.y) > jump_px;
  }
}
