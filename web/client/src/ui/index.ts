/** The part of the client that draws: fetched when it is first asked for. */
import type { Client, ConnectOptions, Overlay, Room } from "../api";
import type { RenderOptions } from "./api";

export type * from "./api";

/** Draws everyone's cursors over `container`, and sends this page's own, until `stop()`. */
export function render(_room: Room, _container: Element, _options: RenderOptions = {}): Overlay {
  throw new Error("not yet");
}

/** What one script tag with `data-room` does: cursors and faces over the whole page. */
export function dropIn(_connect: (options: ConnectOptions) => Client, _tag: HTMLScriptElement): void {
  throw new Error("not yet");
}
