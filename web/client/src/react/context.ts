import { createContext, useContext } from "react";
import type { User } from "../api";
import type { Place } from "./place";
import type { Session } from "./session";

export const SessionContext = createContext<Session | null>(null);
/** Who this is in every room, unless the room's provider says otherwise. */
export const UserContext = createContext<Partial<User> | null>(null);
export const PlaceContext = createContext<Place | null>(null);

/** The session that the component `who` is in. Throws where there is none. */
export function useSession(who: string): Session {
  return useContext(SessionContext) ?? missing(who, "CursormeshProvider");
}

/** The same of the place in a room. */
export function usePlace(who: string): Place {
  return useContext(PlaceContext) ?? missing(who, "RoomProvider");
}

function missing(who: string, provider: string): never {
  throw new Error(`cursormesh: ${who} needs a <${provider}> around it`);
}
