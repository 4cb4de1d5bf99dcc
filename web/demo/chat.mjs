// Talking beside the own cursor: others read it while it is typed. `/` opens it, Escape closes it.

import { $ } from "./make.mjs";
import { busy } from "./reactions.mjs";

/** No cursor: what the tutorial's pages take for gone. */
const NOWHERE = -10000;
/** What is sent with Enter stands for this long. */
const SAID_MS = 4000;

/** `lane` is `chat(room)`. */
export function showChat(lane, room, pointer) {
  const words = $("words");
  /** A finger that does not touch, or no pointer at all, has no place; what is said needs one. */
  let placed = false;
  let hovers = false;
  let ending = 0;
  $("board").addEventListener("pointermove", (event) => { hovers = event.pointerType !== "touch"; }, { passive: true });
  $("board").addEventListener("pointerleave", () => { hovers = false; }, { passive: true });

  function open() {
    $("chat").hidden = false;
    $("talk").hidden = $("reactions").hidden = true;
    words.focus();
  }

  function close() {
    clearTimeout(ending);
    words.value = "";
    lane.say(null);
    lift();
    $("chat").hidden = true;
    $("talk").hidden = $("reactions").hidden = false;
    $("talk").focus({ preventScroll: true });
  }

  function say() {
    clearTimeout(ending);
    if (!hovers && !placed && words.value) {
      placed = true;
      const { x, y } = pointer.place;
      room.cursors.set(Math.round(x), Math.round(y));
    }
    lane.say(words.value || null);
  }

  function lift() {
    if (placed && !hovers) room.cursors.set(NOWHERE, NOWHERE);
    placed = false;
  }

  $("talk").addEventListener("click", open);
  $("hush").addEventListener("click", close);
  words.addEventListener("input", say);
  $("chat").addEventListener("submit", (event) => {
    event.preventDefault();
    // The line is free for the next sentence; the last one stays for a while.
    words.value = "";
    clearTimeout(ending);
    ending = setTimeout(() => {
      lane.say(null);
      lift();
    }, SAID_MS);
  });
  addEventListener("keydown", (event) => {
    if (event.key === "/" && !busy(event)) {
      event.preventDefault();
      open();
    } else if (event.key === "Escape" && !$("chat").hidden) {
      event.preventDefault();
      close();
    }
  }, { capture: true });
}
