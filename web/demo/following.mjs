// Following somebody: this page looks where the other one looks. Where the other one sees more than fits
// here, or does not say what it sees, as bots and the tutorial's pages do not, it looks at their cursor.

import { $, setText } from "./make.mjs";
import { nameOf } from "./person.mjs";

/** A cursor is kept within this share of the window's inner part. */
const MARGIN = 0.15;
/** Of what is left to scroll, this share is scrolled with each frame. */
const STEP = 0.12;
/** Scrollbars, and what is lost in rounding. */
const SLACK_PX = 20;

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
    if (!member || fits(member.state?.cursormesh?.view)) return;
    const cursor = all.find((one) => one.member.id === member.id);
    if (!cursor) return;
    const share = still.matches ? 1 : STEP;
    const left = beyond(cursor.x - view.scrollLeft, view.clientWidth);
    const top = beyond(cursor.y - view.scrollTop, view.clientHeight);
    if (left !== 0 || top !== 0) view.scrollBy({ left: left * share, top: top * share, behavior: "instant" });
  }

  /** All that the other one sees is seen here: then looking there is enough. */
  function fits(seen) {
    if (!Array.isArray(seen)) return false;
    return seen[2] * view.scrollWidth <= view.clientWidth + SLACK_PX && seen[3] * view.scrollHeight <= view.clientHeight + SLACK_PX;
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
