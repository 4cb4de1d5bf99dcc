import { useCallback, useEffect, useMemo, useSyncExternalStore } from "react";
import type { Client, Member, Room, RoomEvent, Status } from "../api";
import { usePlace, useSession } from "./context";
import { shallow } from "./equal";
import { useLatest } from "./latest";
import { NOBODY } from "./place";
import { useSelection, type Source } from "./selection";
import { statusOf } from "./session";

type Fields = Record<string, unknown>;
/** Whether a selection is the same as the one before. */
export type IsEqual<Selection> = (a: Selection, b: Selection) => boolean;

const whole = <Value>(value: Value) => value;
const nobody = () => NOBODY;
const nothing = () => null;
const CONNECTING: Status = { state: "connecting", transport: "websocket", fallback: null };
const connecting = () => CONNECTING;

/**
 * The client. `null` where there is none yet: on a server, while hydrating, in the first render.
 */
export function useClient(): Client | null {
  const { client } = useSession("useClient");
  const subscribe = useCallback((fn: () => void) => client.attach(() => (fn(), fn)), [client]);
  return useSyncExternalStore(subscribe, () => client.thing, nothing);
}

/** How the client is connected. `connecting` where there is none yet. */
export function useConnectionStatus(): Status {
  const { client } = useSession("useConnectionStatus");
  const subscribe = useCallback((fn: () => void) => statusOf(client, fn), [client]);
  return useSyncExternalStore(subscribe, () => client.thing?.status ?? CONNECTING, connecting);
}

/**
 * The room, for what no hook does; it never makes the component render again while it is the same room.
 * `null` where there is none yet, as with `useClient`, and once it is over for this client.
 */
export function useRoom<State = Fields, EventMap extends object = Fields>(): Room<State, EventMap> | null {
  const place = usePlace("useRoom");
  return useSyncExternalStore(place.onRoom, () => place.room, nothing) as Room<State, EventMap> | null;
}

/**
 * The own member, with what was set here already in it; or what `selector` takes of it. `null` until the
 * room is joined.
 */
export function useSelf<State = Fields>(): Member<State> | null;
export function useSelf<State = Fields, Selection = unknown>(
  selector: (self: Member<State>) => Selection,
  isEqual?: IsEqual<Selection>,
): Selection | null;
export function useSelf(selector: (self: Member) => unknown = whole, isEqual: IsEqual<unknown> = shallow): unknown {
  const place = usePlace("useSelf");
  const source = useMemo(() => ({ subscribe: place.onSelf, get: () => place.self, initial: nothing }), [place]);
  return useSelection<Member | null, unknown>(source, useOfSomebody(selector), isEqual);
}

/**
 * The own state as it was last set here, and what sets it: merges into it one level deep, as
 * `room.me.set` does, and gives `false` if the state cannot be sent. The setter stays the same one for
 * as long as the room does. What is set before there is a room is in the state that the room is entered
 * with; on a server the state is the `RoomProvider`'s.
 */
export function useMyPresence<State = Fields>(): [state: Readonly<Partial<State>>, set: (change: Partial<State>) => boolean] {
  const place = usePlace("useMyPresence");
  const source = useMemo(() => ({ subscribe: place.onSelf, get: () => place.state, initial: () => place.initial }), [place]);
  const state = useSelection(source, whole, shallow);
  return [state as Partial<State>, place.set as (change: Partial<State>) => boolean];
}

/**
 * Everyone else, oldest first; or what `selector` takes of them. Renders again only when that is no
 * longer equal: by default, one level deep. Empty where there is no room yet.
 */
export function useOthers<State = Fields>(): readonly Member<State>[];
export function useOthers<State = Fields, Selection = unknown>(
  selector: (others: readonly Member<State>[]) => Selection,
  isEqual?: IsEqual<Selection>,
): Selection;
export function useOthers(selector: (others: readonly Member[]) => unknown = whole, isEqual: IsEqual<unknown> = shallow): unknown {
  const place = usePlace("useOthers");
  const source = useMemo(() => ({ subscribe: place.onOthers, get: () => place.others, initial: nobody }), [place]);
  return useSelection<readonly Member[], unknown>(source, selector, isEqual);
}

/** One of the others, or what `selector` takes of it; `null` while that member is not there. */
export function useOther<State = Fields>(id: string): Member<State> | null;
export function useOther<State = Fields, Selection = unknown>(
  id: string,
  selector: (member: Member<State>) => Selection,
  isEqual?: IsEqual<Selection>,
): Selection | null;
export function useOther(id: string, selector: (member: Member) => unknown = whole, isEqual: IsEqual<unknown> = shallow): unknown {
  const place = usePlace("useOther");
  const source = useMemo(
    (): Source<Member | null> => ({ subscribe: place.onOthers, get: () => byId(place.others).get(id) ?? null, initial: nothing }),
    [place, id],
  );
  return useSelection<Member | null, unknown>(source, useOfSomebody(selector), isEqual);
}

/** Calls `handler`, the newest that was given, with each event of this name. Never renders again. */
export function useEvent<Data = unknown, State = Fields>(name: string, handler: (event: RoomEvent<string, Data, State>) => void): void {
  const { shared } = usePlace("useEvent");
  const latest = useLatest(handler);
  useEffect(
    () => shared.attach((room) => room.events.on(name, (event) => latest.current(event as RoomEvent<string, Data, State>))),
    [shared, name, latest],
  );
}

/**
 * What says an event to everyone in the room, this page included; the same function for as long as the
 * room is the same. `false` if it was dropped at once, as it is where there is no room yet.
 */
export function useBroadcast<EventMap extends object = Fields>(): <Name extends keyof EventMap & string>(
  name: Name,
  data: EventMap[Name],
) => boolean {
  const place = usePlace("useBroadcast");
  return useCallback((name, data) => place.room?.events.send(name, data) ?? false, [place]);
}

/** A selector of a member as one of a member who may not be there. */
function useOfSomebody(selector: (member: Member) => unknown): (member: Member | null) => unknown {
  return useCallback((member: Member | null) => (member ? selector(member) : null), [selector]);
}

const indexes = new WeakMap<readonly Member[], ReadonlyMap<string, Member>>();

/** So that a component per member does not search the whole list at each change. */
function byId(others: readonly Member[]): ReadonlyMap<string, Member> {
  let index = indexes.get(others);
  if (!index) indexes.set(others, (index = new Map(others.map((member) => [member.id, member]))));
  return index;
}
