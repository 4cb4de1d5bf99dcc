// Moves what moves, without CSS animations: those paint as often as the screen can, which is all that a
// machine without a graphics card can do. Here a frame that took long makes the next one wait longer.

const FRAME_EVERY_MIN_MS = 80;
const FRAME_EVERY_MAX_MS = 1000;
/** A frame is this long on a screen that has nothing else to do. */
const IDLE_FRAME_MS = 17;
/** Moving takes about this share of the time. */
const SHARE = 1 / 8;

/** Calls `step` with the time in seconds again and again, unless somebody wants less motion. */
export function keepMoving(step) {
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const next = (took_ms) => {
    const wait_ms = Math.min(Math.max(took_ms / SHARE, FRAME_EVERY_MIN_MS), FRAME_EVERY_MAX_MS);
    setTimeout(() => requestAnimationFrame(frame), wait_ms);
  };
  const frame = (began_at) => {
    if (!still.matches) step(performance.now() / 1000);
    requestAnimationFrame((painted_at) => next(painted_at - began_at - IDLE_FRAME_MS));
  };
  requestAnimationFrame(frame);
}
