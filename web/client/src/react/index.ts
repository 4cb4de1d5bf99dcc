"use client";
/** Hooks and components for React 18 and 19. */
export { CursormeshProvider, RoomProvider, type CursormeshProviderProps, type RoomProviderProps } from "./providers";
export {
  useBroadcast,
  useClient,
  useConnectionStatus,
  useEvent,
  useMyPresence,
  useOther,
  useOthers,
  useRoom,
  useSelf,
  type IsEqual,
} from "./hooks";
export { Cursors, useCursors, type CursorsProps } from "./cursors";
export { AvatarStack, type AvatarStackProps } from "./avatar-stack";
export { roomHooks, type RoomHooks } from "./typed";
export { shallow } from "./equal";
