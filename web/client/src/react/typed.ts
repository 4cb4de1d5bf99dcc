import type { ReactElement } from "react";
import type { Member, Room, RoomEvent } from "../api";
import type { SmoothCursor, SmoothOptions } from "../ui";
import { useCursors } from "./cursors";
import { useBroadcast, useEvent, useMyPresence, useOther, useOthers, useRoom, useSelf, type IsEqual } from "./hooks";
import { RoomProvider, type RoomProviderProps } from "./providers";

/** The hooks of a room whose state and events have these types. */
export interface RoomHooks<State, EventMap extends object> {
  RoomProvider(props: RoomProviderProps<State>): ReactElement;
  useRoom(): Room<State, EventMap> | null;
  useSelf(): Member<State> | null;
  useSelf<Selection>(selector: (self: Member<State>) => Selection, isEqual?: IsEqual<Selection>): Selection | null;
  useMyPresence(): [state: Readonly<Partial<State>>, set: (change: Partial<State>) => boolean];
  useOthers(): readonly Member<State>[];
  useOthers<Selection>(selector: (others: readonly Member<State>[]) => Selection, isEqual?: IsEqual<Selection>): Selection;
  useOther(id: string): Member<State> | null;
  useOther<Selection>(id: string, selector: (member: Member<State>) => Selection, isEqual?: IsEqual<Selection>): Selection | null;
  useEvent<Name extends keyof EventMap & string>(name: Name, handler: (event: RoomEvent<Name, EventMap[Name], State>) => void): void;
  useCursors(fn: (cursors: readonly SmoothCursor<State>[]) => void, options?: SmoothOptions): void;
  useBroadcast(): <Name extends keyof EventMap & string>(name: Name, data: EventMap[Name]) => boolean;
}

/** The same hooks, told once what the room's state and events are: `const { useOthers } = roomHooks<State, Events>()`. */
export function roomHooks<State, EventMap extends object = Record<string, unknown>>(): RoomHooks<State, EventMap> {
  return { RoomProvider, useRoom, useSelf, useMyPresence, useOthers, useOther, useEvent, useCursors, useBroadcast } as unknown as RoomHooks<State, EventMap>;
}
