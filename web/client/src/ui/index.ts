/** The part of the client that draws: fetched when it is first asked for. */
import type { Room } from "../api";
import type { AvatarOptions, AvatarStack, Overlay, RenderOptions } from "./api";
import { Faces } from "./avatars";
import { OverlayCore } from "./overlay";

export type * from "./api";
export { dropIn } from "./dropin";

/**
 * Draws everyone's cursors over `container`, and sends this page's own, until `stop()`. The whole page
 * is `document.documentElement`. Throws for a selector of anchors that is none.
 */
export function render(room: Room, container: Element, options: RenderOptions = {}): Overlay {
  return new OverlayCore(room, container, options);
}

/** Draws who is in the room, as a row of faces in `container`, or in a corner of the window where that is `null`. */
export function avatars(room: Room, container: Element | null = null, options: AvatarOptions = {}): AvatarStack {
  return new Faces(room, container, options);
}
