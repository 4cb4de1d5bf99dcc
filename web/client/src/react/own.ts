import type { Room, Unsubscribe } from "../api";

const listeners = new WeakMap<Room, Set<() => void>>();

/**
 * Tells `fn` that the own state or user was set, by whomever: a room tells nobody of it. So its two
 * setters are made to.
 */
export function onOwnChange(room: Room, fn: () => void): Unsubscribe {
  let told = listeners.get(room);
  if (!told) {
    listeners.set(room, (told = new Set()));
    const all = told;
    const telling = <Given>(set: (given: Given) => boolean) => (given: Given) => {
      const before = [room.me.state, room.me.user];
      const taken = set(given);
      if (before[0] !== room.me.state || before[1] !== room.me.user) for (const listener of [...all]) listener();
      return taken;
    };
    room.me.set = telling(room.me.set);
    room.me.setUser = telling(room.me.setUser);
  }
  // A function of its own, so that one may listen twice and stop once.
  const listener = () => fn();
  told.add(listener);
  return () => void told.delete(listener);
}
