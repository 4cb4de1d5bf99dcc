import { roomHooks } from "cursormesh/react";

/** What everyone shows of themselves for as long as they are here. */
export interface State {
  note: string;
}

/** What is said once and gone. */
export type Events = { reaction: { emoji: string } };

/** The hooks, told once what is in this application's rooms. */
export const { RoomProvider, useMyPresence, useOthers, useOther, useSelf, useEvent, useBroadcast } = roomHooks<State, Events>();
