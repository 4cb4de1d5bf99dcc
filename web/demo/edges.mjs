// Who points at something beyond this window's edge: a dot on the edge says that somebody is over there.

import { make } from "./make.mjs";

const DOTS_MAX = 40;
const INSET_PX = 9;

/** `cursors` as `smooth(room)` gives them, in pixels of `board`. */
export function showEdges(cursors, board, layer) {
  const dots = new Map();
  let asked = 0;

  function draw(all) {
    const { left, top } = board.getBoundingClientRect();
    const seen = new Set();
    for (const { member, x, y } of all) {
      const [at_x, at_y] = [left + x, top + y];
      if (at_x >= 0 && at_y >= 0 && at_x <= innerWidth && at_y <= innerHeight) continue;
      if (seen.size >= DOTS_MAX) break;
      seen.add(member.id);
      let dot = dots.get(member.id);
      if (!dot) {
        dot = make("span", "edge");
        dots.set(member.id, dot);
        layer.append(dot);
      }
      dot.style.setProperty("--hue", String(member.user.color));
      dot.style.transform = `translate(${clamp(at_x, innerWidth)}px, ${clamp(at_y, innerHeight)}px)`;
    }
    for (const [id, dot] of dots) {
      if (seen.has(id)) continue;
      dots.delete(id);
      dot.remove();
    }
  }

  const again = () => {
    asked ||= requestAnimationFrame(() => {
      asked = 0;
      draw(cursors.all);
    });
  };
  cursors.on(draw);
  addEventListener("resize", again);
  document.addEventListener("scroll", again, { capture: true, passive: true });
  draw(cursors.all);
}

function clamp(px, size) {
  return Math.min(Math.max(px, INSET_PX), size - INSET_PX);
}
