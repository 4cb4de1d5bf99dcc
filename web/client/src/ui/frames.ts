/** One loop of animation frames for everything that moves on a page; it sleeps when nothing does. */

/** Draws at `now_ms`, on the clock of `performance.now()`; `true` if the next frame has work for it, too. */
export type Task = (now_ms: number) => boolean;

const awake = new Set<Task>();
let requested = false;

/** Calls `task` with the next frame. */
export function wake(task: Task): void {
  awake.add(task);
  if (requested) return;
  requested = true;
  requestAnimationFrame(frame);
}

export function sleep(task: Task): void {
  awake.delete(task);
}

function frame(now_ms: number): void {
  requested = false;
  const tasks = [...awake];
  awake.clear();
  for (const task of tasks) {
    try {
      if (task(now_ms)) wake(task);
    } catch (error) {
      reportError(error);
    }
  }
}
