import type { Member, Room, Unsubscribe, User } from "../api";
import { shallow } from "./equal";
import { onOwnChange } from "./own";
import type { Seat, Session } from "./session";
import { Shared } from "./shared";

type Fields = Record<string, unknown>;

/** What hooks show while there is no room yet: on a server, while hydrating, in the first render. */
export const NOBODY: readonly Member[] = [];

/** What a `RoomProvider` gives to those below it: the room, once there is one, and how to hear of it. */
export class Place {
  readonly shared: Shared<Room>;
  /** The state to enter with: what was given, and what was set before there was a room. */
  #early: Fields;
  readonly #listeners = new Set<() => void>();
  #user: Partial<User> = {};
  #self: { member: Member; user: object; view: Member } | null = null;
  #state: { whole: Readonly<Fields>; own: Readonly<Fields> } | null = null;

  /** `initial`: the own state to enter with. */
  constructor(
    session: Session,
    readonly name: string,
    readonly initial: Readonly<Fields>,
  ) {
    this.#early = initial;
    let seat: Seat | null = null;
    let release: Unsubscribe | null = null;
    this.shared = new Shared<Room>(
      () => {
        const [client, letGo] = session.client.hold();
        release = letGo;
        seat = session.enter(client, name, { user: this.#user, ...(Object.keys(this.#early).length > 0 && { state: this.#early }) });
        const { room } = seat;
        room.on("ended", () => this.shared.lose(room));
        return room;
      },
      () => {
        this.#early = initial;
        if (seat) session.exit(seat);
        release?.();
        seat = release = null;
      },
    );
  }

  get room(): Room | null {
    return this.shared.thing;
  }

  get others(): readonly Member[] {
    return this.room?.others ?? NOBODY;
  }

  /** The own member, with what was set here since the server last said how it is. */
  get self(): Member | null {
    const me = this.room?.me;
    if (!me?.member) return null;
    const { member, user } = me;
    const state = Object.keys(me.state).length > 0 ? this.state : member.state;
    const known = this.#self;
    if (known?.member === member && known.user === user && known.view.state === state) return known.view;
    const view = { ...member, user: { ...member.user, ...user }, state };
    this.#self = { member, user, view };
    return view;
  }

  /** The own state as it was last set here, without what `cursormesh/ui` keeps in it. */
  get state(): Readonly<Fields> {
    const state: Readonly<Fields> | undefined = this.room?.me.state;
    if (!state) return this.#early;
    if (this.#state?.whole === state) return this.#state.own;
    const { cursormesh, ...rest } = state;
    const before = this.#state?.own;
    const own = before && shallow(before, rest) ? before : rest;
    this.#state = { whole: state, own };
    return own;
  }

  /** Sets the own state, also before there is a room: it enters with it then. */
  readonly set = (change: Fields): boolean => {
    const { room } = this;
    if (room) return room.me.set(change);
    this.#early = { ...this.#early, ...change };
    for (const listener of [...this.#listeners]) listener();
    return true;
  };

  /** Says who this is, also before there is a room. */
  setUser(user: Partial<User>): void {
    if (!shallow(user, this.#user)) this.room?.me.setUser(user);
    this.#user = user;
  }

  /** Tells `fn` that the room or its others are different. */
  readonly onOthers = (fn: () => void): Unsubscribe => this.#on(fn, (room) => [room.on("others", fn)]);

  /** Tells `fn` that the room or the own member is different. */
  readonly onSelf = (fn: () => void): Unsubscribe => {
    const joined = ["ready", "recovered", "rebuilt", "others"] as const;
    const off = this.#on(fn, (room) => [onOwnChange(room, fn), ...joined.map((name) => room.on(name, fn))]);
    this.#listeners.add(fn);
    return () => {
      this.#listeners.delete(fn);
      off();
    };
  };

  /** Tells `fn` that there is a room, or none any more. */
  readonly onRoom = (fn: () => void): Unsubscribe => this.#on(fn, () => []);

  #on(fn: () => void, listen: (room: Room) => Unsubscribe[]): Unsubscribe {
    return this.shared.attach((room) => {
      const offs = listen(room);
      fn();
      return () => {
        for (const off of offs) off();
        fn();
      };
    });
  }
}
