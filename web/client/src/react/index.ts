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
export { roomHooks, type RoomHooks } from "./typed";
export { shallow } from "./equal";
