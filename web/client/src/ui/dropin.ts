import type { Client, ConnectOptions, Room } from "../api";
import type { AvatarStack, Corner, DropIn, Overlay, User } from "./api";
import { roomOf } from "./address";
import { Faces } from "./avatars";
import { OverlayCore } from "./overlay";
import { friend } from "./person";

/** Where nobody marks anything up: what has an id, and what pages have one of. */
const ANCHORS = "[data-cursor-anchor],[id],main,header,footer,nav";
const CORNERS: readonly string[] = ["top-left", "top-right", "bottom-left", "bottom-right"] satisfies Corner[];
/** Some routers change the address without an event that all browsers know. */
const ADDRESS_MS = 1_000;

/**
 * What one script tag with `data-room` does: cursors and faces over the whole page. A page that wants
 * more of it finds it as the tag's property `cursormesh`, from its event `cursormesh` on.
 */
export function dropIn(connect: (options: ConnectOptions) => Client, tag: HTMLScriptElement): void {
  if (document.body) return start(connect, tag);
  document.addEventListener("DOMContentLoaded", () => start(connect, tag), { once: true });
}

function start(connect: (options: ConnectOptions) => Client, tag: HTMLScriptElement): void {
  const { room: name = "auto", token } = tag.dataset;
  const client = connect(token === undefined ? {} : { token });
  const user = userOf(tag);
  const enter = (room: string) => new Entered(client, room, user, tag);
  let room = name === "auto" ? roomOf(location) : name;
  let entered = enter(room);
  tell(tag, client, entered);
  if (name !== "auto") return;
  const look = () => {
    const next = roomOf(location);
    if (next === room || client.status.state === "closed") return;
    room = next;
    entered.leave();
    entered = enter(room);
    tell(tag, client, entered);
  };
  addEventListener("popstate", look);
  setInterval(look, ADDRESS_MS);
}

/** The cursors and faces of one room. */
class Entered {
  readonly room: Room;
  readonly overlay: Overlay;
  readonly avatars: AvatarStack | null;

  constructor(client: Client, name: string, user: User, { dataset }: HTMLScriptElement) {
    this.room = client.room(name, { user });
    this.overlay = new OverlayCore(this.room, document.documentElement, {
      anchors: dataset.anchors ?? ANCHORS,
      labels: dataset.labels !== "off",
      announce: dataset.announce !== "off",
    });
    const corner = dataset.avatars;
    this.avatars = corner === "off" ? null : new Faces(this.room, null, CORNERS.includes(corner ?? "") ? { corner: corner as Corner } : {});
  }

  leave(): void {
    this.overlay.stop();
    this.avatars?.stop();
    this.room.leave();
  }
}

function userOf({ dataset }: HTMLScriptElement): User {
  const known = friend(() => localStorage);
  const color = Number.parseFloat(dataset.color ?? "");
  return {
    id: dataset.user ?? known.id,
    name: dataset.name ?? known.name,
    color: Number.isFinite(color) ? color : known.color,
  };
}

function tell(tag: HTMLScriptElement, client: Client, { room, overlay, avatars }: Entered): void {
  const detail: DropIn = { client, room, overlay, avatars };
  Object.assign(tag, { cursormesh: detail });
  tag.dispatchEvent(new CustomEvent("cursormesh", { detail, bubbles: true }));
}
