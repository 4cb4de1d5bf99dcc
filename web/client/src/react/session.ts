import type { Client, Room, RoomOptions, Unsubscribe } from "../api";
import { Shared } from "./shared";

/** A room, and how many providers are in it. */
export interface Seat {
  readonly room: Room;
  holders: number;
}

/** What a `CursormeshProvider` gives to those below it: a client, and who is in which of its rooms. */
export class Session {
  readonly #seats = new Map<string, Seat>();

  constructor(readonly client: Shared<Client>) {}

  /** Providers of the same name are in the same room; the first one's options count. */
  enter(client: Client, name: string, options: RoomOptions<Record<string, unknown>>): Seat {
    const found = this.#seats.get(name);
    if (found) {
      found.holders += 1;
      return found;
    }
    const seat = { room: client.room(name, options), holders: 1 };
    this.#seats.set(name, seat);
    // Whoever comes after the room was over for this client enters anew.
    seat.room.on("ended", () => this.#forget(seat));
    return seat;
  }

  exit(seat: Seat): void {
    seat.holders -= 1;
    if (seat.holders > 0) return;
    this.#forget(seat);
    seat.room.leave();
  }

  #forget(seat: Seat): void {
    if (this.#seats.get(seat.room.name) === seat) this.#seats.delete(seat.room.name);
  }
}

/** Tells `fn` that a client, or its status, is another one. */
export function statusOf(client: Shared<Client>, fn: () => void): Unsubscribe {
  return client.attach((client) => {
    fn();
    const off = client.on("status", fn);
    return () => {
      off();
      fn();
    };
  });
}
