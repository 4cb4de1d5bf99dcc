// The bar of reactions, and the keys 1 to 6.

import { $, make } from "./make.mjs";

const REACTIONS = [["👍", "Thumbs up"], ["❤️", "Heart"], ["🎉", "Party"], ["😂", "Laughing"], ["👀", "Eyes"], ["🚀", "Rocket"]];

/** `lane` is `reactions(room, overlay)`; they rise at `pointer.place`. */
export function showReactions(lane, pointer) {
  for (const [at, [emoji, name]] of REACTIONS.entries()) {
    const button = make("button", "emoji quiet", emoji);
    button.type = "button";
    button.title = `${name} (press ${at + 1})`;
    button.setAttribute("aria-label", name);
    button.setAttribute("aria-keyshortcuts", String(at + 1));
    button.addEventListener("click", () => lane.send(emoji, pointer.place));
    $("reactions").append(button);
  }
  addEventListener("keydown", (event) => {
    const reaction = /^[1-6]$/.test(event.key) ? REACTIONS[Number(event.key) - 1] : undefined;
    if (reaction && !event.repeat && !busy(event)) lane.send(reaction[0], pointer.place);
  });
}

/** The key is meant for something else. */
export function busy(event) {
  return event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented
    || (event.target instanceof Element && event.target.matches("input:not([type=range]), textarea, select, [contenteditable]"));
}
