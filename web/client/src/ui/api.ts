/**
 * What a page sees of the part that draws: types only. The published declarations are this file and
 * the client's.
 */
import type { Client, Member, Overlay, Room, Unsubscribe, User } from "../api";

/** A position as it is sent: what the two numbers mean is up to `Coordinates`. */
export interface Point {
  readonly x: number;
  readonly y: number;
}

/**
 * What a position in the room means on a screen.
 *
 * - `content`: fractions of the container's content (its scroll width and height), so that screens of
 *   different sizes agree; an element with the attribute `data-cursor-anchor="NAME"` inside it has
 *   coordinates of its own: a fraction of that element, found by name on the other screens.
 * - `pixels`: CSS pixels from the container's top left corner, as the tutorial's pages send them.
 * - two functions, for canvases that pan and zoom: from and to CSS pixels within the container.
 *   Call `overlay.update()` after the view changed.
 */
export type Coordinates =
  | "content"
  | "pixels"
  | {
      /** From the room's coordinates to CSS pixels from the container's top left corner. */
      toScreen(point: Point): Point;
      /** The other way. */
      toRoom(point: Point): Point;
    };

/** How positions between samples are made up. */
export interface SmoothOptions {
  /** `false`: every position is shown as it arrives. Defaults to `true`. */
  smooth?: boolean;
  /**
   * Farther than this from one sample to the next is a jump: in CSS pixels where cursors are drawn
   * (defaults to 600), in the room's coordinates for `smooth()` (defaults to never).
   */
  jump?: number;
}

export interface TrackOptions {
  /** Defaults to `content`. */
  coordinates?: Coordinates;
  /**
   * Which elements positions may be relative to, with `content`: a selector. Their name is the attribute
   * `data-cursor-anchor`, else the id, else the kind of element. Defaults to `[data-cursor-anchor]`.
   */
  anchors?: string;
}

export interface RenderOptions extends SmoothOptions, TrackOptions {
  /** Sends where this page's own pointer is, too. Defaults to `true`. */
  track?: boolean;
  /** Names beside cursors. Defaults to `true`. */
  labels?: boolean;
  /** Says who comes and goes to screen readers, in English or in your words. Defaults to `true`. */
  announce?: boolean | Words;
}

/** What screen readers are told; each defaults to English. */
export interface Words {
  /** `count` people came. */
  joined?: (names: string, count: number) => string;
  left?: (names: string, count: number) => string;
  /** At most three names, and how many more there are. */
  list?: (names: readonly string[], more: number) => string;
}

/** A cursor between samples. */
export interface SmoothCursor<State = unknown> extends Point {
  readonly member: Member<State>;
  /** It will move in the next frame. */
  readonly moving: boolean;
}

/** Cursors per animation frame. */
export interface SmoothCursors<State = unknown> {
  /** Called in each frame in which a cursor moved, came or went, with all of them. */
  on(fn: (cursors: readonly SmoothCursor<State>[]) => void): Unsubscribe;
  /** All of them, as in the last frame. */
  readonly all: readonly SmoothCursor<State>[];
  stop(): void;
}

/** Of the window. */
export type Corner = "top-left" | "top-right" | "bottom-left" | "bottom-right";

export interface AvatarOptions<State = unknown> {
  /** Where it stands without a container. Defaults to `bottom-right`. */
  corner?: Corner;
  /** What screen readers call it. Defaults to "People on this page". */
  label?: string;
  /** Faces shown; the rest is a number. Defaults to 5. */
  max?: number;
  /** Milliseconds for which somebody who left still stands there, greyed. Defaults to 5,000. */
  grace_ms?: number;
  /** Shows this page's own member too, first. Defaults to `true`. */
  self?: boolean;
  /** What to do when a face is chosen: follow, by default nothing. */
  choose?: (member: Member<State>) => void;
}

/** A row of faces that is being drawn: one per user, however many tabs. */
export interface AvatarStack {
  stop(): void;
}

/** A reaction at a place. */
export interface Reaction<State = unknown> extends Point {
  readonly emoji: string;
  readonly member: Member<State> | null;
  readonly self: boolean;
}

export interface Reactions<State = unknown> {
  /**
   * At the own cursor, or `at` a position of the room; without a cursor in the middle of what is visible.
   * At most 32 bytes of text. `false` if it did not go out.
   */
  send(emoji: string, at?: Point): boolean;
  on(fn: (reaction: Reaction<State>) => void): Unsubscribe;
  stop(): void;
}

/** What somebody says beside their cursor while they type it. */
export interface CursorChat<State = unknown> {
  /** The own text as it is typed, at most 200 characters; `null` ends it, and so do 12 s without a change. */
  say(text: string | null): void;
  /** What a member says at the moment; `null` for nothing. */
  of(member: Member<State>): string | null;
  /** Ends what is being said. */
  stop(): void;
}

/** What is visible of a container, as fractions of its content: left, top, width, height. */
export type View = readonly [left: number, top: number, width: number, height: number];

export interface FollowOptions {
  /** What this page sees, where it does not scroll but pans and zooms; any four numbers. `null`: nothing now. */
  read?: () => View | null;
  /** Looks where somebody else looks. Defaults to scrolling the container. */
  show?: (view: View) => void;
}

/**
 * Following: this page looks where somebody else looks, until its user scrolls by hand or the other is
 * gone. Both pages need it: a page tells where it looks only while somebody follows it.
 */
export interface Follow<State = unknown> {
  /** The member that is followed, `null` for nobody. */
  readonly member: Member<State> | null;
  follow(member: Member<State> | null): void;
  /** Whoever is followed from now on; `null` where that ended. */
  on(fn: (member: Member<State> | null) => void): Unsubscribe;
  /** What `read` gives is another now. */
  changed(): void;
  stop(): void;
}

export interface IdleOptions {
  /** Without input for this long nobody is there. Defaults to 60,000. */
  after_ms?: number;
}

/** Whether somebody is at this page; the others see it greyed while nobody is. */
export interface Idle {
  readonly idle: boolean;
  on(fn: (idle: boolean) => void): Unsubscribe;
  stop(): void;
}

/** What a script tag with `data-room` made: its property `cursormesh`, and the `detail` of its event `cursormesh`. */
export interface DropIn {
  readonly client: Client;
  readonly room: Room;
  readonly overlay: Overlay;
  readonly avatars: AvatarStack | null;
}

export type { Client, Member, Overlay, Room, Unsubscribe, User };
