/** The part of the client that draws: fetched when it is first asked for. */
import type { Member, Room } from "../api";
import type {
  AvatarOptions,
  AvatarStack,
  CursorChat,
  Follow,
  FollowOptions,
  Idle,
  IdleOptions,
  Overlay,
  Reactions,
  RenderOptions,
  SmoothCursors,
  SmoothOptions,
} from "./api";
import { Faces } from "./avatars";
import { Chat } from "./chat";
import { Following } from "./follow";
import { IdleWatch } from "./idle";
import { OverlayCore } from "./overlay";
import { ownOf } from "./own";
import { ReactionLane } from "./reactions";
import { Smoothed } from "./smooth";

export type * from "./api";
export { dropIn } from "./dropin";

// A room may be given types of its own; what is kept beside them is the same in each.
const plain = <State, EventMap extends object>(room: Room<State, EventMap>) => room as unknown as Room;

/**
 * Draws everyone's cursors over `container`, and sends this page's own, until `stop()`. The whole page
 * is `document.documentElement`. Throws for a selector of anchors that is none.
 */
export function render<State, EventMap extends object>(room: Room<State, EventMap>, container: Element, options: RenderOptions = {}): Overlay {
  return new OverlayCore(plain(room), container, options);
}

/** Draws who is in the room, as a row of faces in `container`, or in a corner of the window where that is `null`. */
export function avatars<State, EventMap extends object>(
  room: Room<State, EventMap>,
  container: Element | null = null,
  options: AvatarOptions<State> = {},
): AvatarStack {
  return new Faces(plain(room), container, options as AvatarOptions);
}

/** Everyone's cursors in each frame, smoothed, in the room's coordinates: for canvases, and pages that draw by themselves. */
export function smooth<State, EventMap extends object>(room: Room<State, EventMap>, options: SmoothOptions = {}): SmoothCursors<State> {
  return new Smoothed(room as unknown as Room<State>, options);
}

/** Reactions at cursors. For an element without an overlay of this room one is made that draws and does not track. */
export function reactions<State, EventMap extends object>(room: Room<State, EventMap>, where: Overlay | Element): Reactions<State> {
  return new ReactionLane(room as unknown as Room<State>, where);
}

/** What people say beside their cursors. Overlays draw it. */
export function chat<State, EventMap extends object>(room: Room<State, EventMap>): CursorChat<State> {
  return new Chat(plain(room)) as CursorChat<State>;
}

/** Follows others' views of `container`, and lets others follow this page's. */
export function follow<State, EventMap extends object>(room: Room<State, EventMap>, container: Element, options: FollowOptions = {}): Follow<State> {
  return new Following(plain(room), container, options) as Follow<State>;
}

/** Tells the others while nobody is at this page. */
export function idle<State, EventMap extends object>(room: Room<State, EventMap>, options: IdleOptions = {}): Idle {
  return new IdleWatch(plain(room), options);
}

/** Whether nobody is at a member's page, as its `idle()` says. */
export function isIdle<State>(member: Member<State>): boolean {
  return ownOf(member as Member).idle === true;
}
