import { createElement, useContext, useEffect, useMemo, type ReactElement, type ReactNode } from "react";
import type { Client, ConnectOptions, User } from "../api";
import { connect } from "../index";
import { PlaceContext, SessionContext, UserContext, useSession } from "./context";
import { useLatest } from "./latest";
import { Place } from "./place";
import { Session } from "./session";
import { Shared } from "./shared";

/**
 * The options of `connect`. Another `url`, other `urls` or another plain `token` make another connection;
 * of a `token` function the newest is asked; the other options count when the connection is made.
 */
export interface CursormeshProviderProps extends ConnectOptions {
  /** Who this is, in every room below. A `RoomProvider` may say more. */
  user?: Partial<User>;
  /** A client that the page has made itself, in place of the options. It stays open. */
  client?: Client;
  children?: ReactNode;
}

/** Connects once it is mounted, never while rendering, and closes when it is unmounted. */
export function CursormeshProvider({ client, user, children, ...options }: CursormeshProviderProps): ReactElement {
  const latest = useLatest(options);
  const { url, urls, token } = options;
  const identity = JSON.stringify([url, urls, typeof token === "function" ? true : token]);
  const session = useMemo(() => {
    const open = () => client ?? connect({ ...latest.current, ...(typeof token === "function" && { token: ask }) });
    const ask = () => {
      const { token } = latest.current;
      return typeof token === "function" ? token() : (token ?? null);
    };
    return new Session(new Shared(open, (opened) => client ?? opened.close()));
    // `identity` stands for the options.
  }, [client, identity, latest]);
  useEffect(() => session.client.hold()[1], [session]);
  return createElement(SessionContext.Provider, { value: session }, createElement(UserContext.Provider, { value: user ?? null }, children));
}

export interface RoomProviderProps<State = Record<string, unknown>> {
  /** Another name: the old room is left, the other one entered. */
  name: string;
  /** Who this is; what it leaves out comes from the `CursormeshProvider`. May change. */
  user?: Partial<User>;
  /** The own state to enter with. Later ones are not looked at: `useMyPresence` changes it. */
  state?: Partial<State>;
  children?: ReactNode;
}

/**
 * Enters the room once it is mounted and leaves it when it is unmounted. Providers of the same name below
 * one `CursormeshProvider` share the room; it is left with the last of them.
 */
export function RoomProvider<State = Record<string, unknown>>({ name, user, state, children }: RoomProviderProps<State>): ReactElement {
  const session = useSession("RoomProvider");
  const inherited = useContext(UserContext);
  const { id, name: called, color } = { ...inherited, ...user };
  const first = useLatest(state);
  const place = useMemo(() => new Place(session, name, { ...first.current }), [session, name, first]);
  // Before it is entered, so that it is entered as that user.
  useEffect(() => place.setUser(given({ id, name: called, color })), [place, id, called, color]);
  useEffect(() => place.shared.hold()[1], [place]);
  return createElement(PlaceContext.Provider, { value: place }, children);
}

/** Without what is not there. */
function given(user: { [Key in keyof User]: User[Key] | undefined }): Partial<User> {
  return Object.fromEntries(Object.entries(user).filter(([, value]) => value !== undefined));
}
