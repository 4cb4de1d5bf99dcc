// Following somebody: this page looks where the other one looks, and around the other's cursor where that
// page does not say, as bots and the tutorial's pages do not.

import { $, setText } from "./make.mjs";
import { nameOf } from "./person.mjs";

/** A cursor is kept within this share of the window's inner part. */
const MARGIN = 0.15;
/** Of what is left to scroll, this share is scrolled with each frame. */
const STEP = 0.12;

const still = matchMedia("(prefers-reduced-motion: reduce)");

/** `lane` is `follow(room, view)`, `cursors` is `smooth(room)`. */
export function showFollowing(room, lane, cursors, view) {
  function show(member) {
    $("following").hidden = $("frame").hidden = member === null;
    if (!member) return;
    setText($("followed"), nameOf(member));
    $("frame").style.setProperty("--hue", String(member.user.color));
    $("following").style.setProperty("--hue", String(member.user.color));
    look(cursors.all);
  }

  function look(all) {
    const { member } = lane;
    if (!member || member.state?.cursormesh?.view !== undefined) return;
    const cursor = all.find((one) => one.member.id === member.id);
    if (!cursor) return;
    const share = still.matches ? 1 : STEP;
    const left = beyond(cursor.x - view.scrollLeft, view.clientWidth);
    const top = beyond(cursor.y - view.scrollTop, view.clientHeight);
    if (left !== 0 || top !== 0) view.scrollBy({ left: left * share, top: top * share, behavior: "instant" });
  }

  lane.on(show);
  cursors.on(look);
  room.on("others", () => lane.member && show(lane.member));
  $("unfollow").addEventListener("click", () => lane.follow(null));
  addEventListener("keydown", (event) => {
    if (event.key === "Escape" && lane.member && !event.defaultPrevented) lane.follow(null);
  });

  return {
    /** Follows `member`, or nobody if that one is followed already or is this page's own. */
    toggle(member) {
      lane.follow(member.id === lane.member?.id || member.id === room.me.member?.id ? null : member);
    },
  };
}

/** How far a place is outside of the inner part. */
function beyond(px, size) {
  return Math.min(0, px - size * MARGIN) + Math.max(0, px - size * (1 - MARGIN));
}
