import type { Client, ConnectOptions, Member, Overlay, Room, RoomEvent, Status, User } from "./cursormesh.cjs";
import type { CSSProperties, ReactElement, ReactNode } from "react";
import type { AvatarOptions, RenderOptions, SmoothCursor, SmoothOptions } from "./cursormesh-ui.js" with { "resolution-mode": "import" };

/** Connects once it is mounted, never while rendering, and closes when it is unmounted. */
export declare function CursormeshProvider({ client, user, children, ...options }: CursormeshProviderProps): ReactElement;

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

/**
 * Enters the room once it is mounted and leaves it when it is unmounted. Providers of the same name below
 * one `CursormeshProvider` share the room; it is left with the last of them.
 */
export declare function RoomProvider<State = Record<string, unknown>>({ name, user, state, children }: RoomProviderProps<State>): ReactElement;

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
 * What says an event to everyone in the room, this page included; the same function for as long as the
 * room is the same. `false` if it was dropped at once, as it is where there is no room yet.
 */
export declare function useBroadcast<EventMap extends object = Fields>(): <Name extends keyof EventMap & string>(name: Name, data: EventMap[Name]) => boolean;

type Fields = Record<string, unknown>;

/**
 * The client. `null` where there is none yet: on a server, while hydrating, in the first render.
 */
export declare function useClient(): Client | null;

/** How the client is connected. `connecting` where there is none yet. */
export declare function useConnectionStatus(): Status;

/** Calls `handler`, the newest that was given, with each event of this name. Never renders again. */
export declare function useEvent<Data = unknown, State = Fields>(name: string, handler: (event: RoomEvent<string, Data, State>) => void): void;

/**
 * The own state as it was last set here, and what sets it: merges into it one level deep, as
 * `room.me.set` does, and gives `false` if the state cannot be sent. The setter stays the same one for
 * as long as the room does. What is set before there is a room is in the state that the room is entered
 * with; on a server the state is the `RoomProvider`'s.
 */
export declare function useMyPresence<State = Fields>(): [state: Readonly<Partial<State>>, set: (change: Partial<State>) => boolean];

/** One of the others, or what `selector` takes of it; `null` while that member is not there. */
export declare function useOther<State = Fields>(id: string): Member<State> | null;
export declare function useOther<State = Fields, Selection = unknown>(id: string, selector: (member: Member<State>) => Selection, isEqual?: IsEqual<Selection>): Selection | null;

/** Whether a selection is the same as the one before. */
export type IsEqual<Selection> = (a: Selection, b: Selection) => boolean;

/**
 * Everyone else, oldest first; or what `selector` takes of them. Renders again only when that is no
 * longer equal: by default, one level deep. Empty where there is no room yet.
 */
export declare function useOthers<State = Fields>(): readonly Member<State>[];
export declare function useOthers<State = Fields, Selection = unknown>(selector: (others: readonly Member<State>[]) => Selection, isEqual?: IsEqual<Selection>): Selection;

/**
 * The room, for what no hook does; it never makes the component render again while it is the same room.
 * `null` where there is none yet, as with `useClient`, and once it is over for this client.
 */
export declare function useRoom<State = Fields, EventMap extends object = Fields>(): Room<State, EventMap> | null;

/**
 * The own member, with what was set here already in it; or what `selector` takes of it. `null` until the
 * room is joined.
 */
export declare function useSelf<State = Fields>(): Member<State> | null;
export declare function useSelf<State = Fields, Selection = unknown>(selector: (self: Member<State>) => Selection, isEqual?: IsEqual<Selection>): Selection | null;

/** Draws everyone's cursors, and sends where the own pointer is. At most one of them per room. */
export declare function Cursors(props: CursorsProps): ReactElement | null;

/** The options of `render` in `cursormesh/ui`; functions in them may be new in each render. */
export interface CursorsProps extends RenderOptions {
    /** Do not send where the own pointer is. */
    hideMine?: boolean;
    /** Do not draw anybody's. */
    hideOthers?: boolean;
    /** Over the whole page, wherever the component stands. */
    page?: boolean;
    /** Is given the overlay while there is one, for `update()` and for what else `cursormesh/ui` draws on it. */
    overlayRef?: {
        current: Overlay | null;
    };
    /** What the cursors are drawn over, in a `div`. Without children: the element that the component stands in. */
    children?: ReactNode;
    /** Of the `div`. */
    className?: string;
    style?: CSSProperties;
}

/**
 * Calls `fn`, the newest that was given, in each frame in which a cursor moved, came or went, with all of
 * them, smoothed, in the room's own coordinates. Never renders again: move elements by their refs.
 */
export declare function useCursors<State = Record<string, unknown>>(fn: (cursors: readonly SmoothCursor<State>[]) => void, options?: SmoothOptions): void;

/** A row of faces: who is in the room. Where it stands, or in a `corner` of the window. */
export declare function AvatarStack({ className, style, ...options }: AvatarStackProps): ReactElement | null;

/** The options of `avatars` in `cursormesh/ui`; functions in them may be new in each render. */
export interface AvatarStackProps extends AvatarOptions {
    /** Of the `div` that the faces are in; there is none where `corner` is given. */
    className?: string;
    style?: CSSProperties;
}

/** The same hooks, told once what the room's state and events are: `const { useOthers } = roomHooks<State, Events>()`. */
export declare function roomHooks<State, EventMap extends object = Record<string, unknown>>(): RoomHooks<State, EventMap>;

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

/** Equal, or lists or plain objects whose parts are the same ones. */
export declare function shallow(a: unknown, b: unknown): boolean;

export {};
