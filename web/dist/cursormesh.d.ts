/**
 * What a page sees of the client: types only, and no imports, so that this file is also the
 * published declaration file.
 */
/** How bytes travel. */
export type Transport = "websocket" | "sockjs";
/** Who a member is. */
export interface User {
    /** The application's id of the user; empty means that the member stands for itself. */
    id: string;
    /** Display name; may be empty. */
    name: string;
    /** Hue in degrees, 0–359; what is given is rounded and taken around the circle. The server picks one where none is. */
    color: number;
}
/** One connection's presence in one room. */
export interface Member<State = unknown> {
    /** The member; it stays when its connection moves to another node. */
    readonly id: string;
    readonly user: Readonly<User>;
    /** The application's state; `null` where it has none. */
    readonly state: State | null;
    /** The node that serves it. */
    readonly node: string;
    /** Milliseconds since the Unix epoch. */
    readonly joined_at: number;
    /** Its connection broke and may come back within seconds. */
    readonly away: boolean;
}
/**
 * Why a member is gone. `unknown`: it went while this client was away itself.
 */
export type LeaveReason = "closed" | "timed_out" | "node_lost" | "kicked" | "superseded" | "unknown";
/** Why a connection ended. */
export interface Ending {
    /** The close code; `null` where the client itself gave the connection up. */
    readonly code: number | null;
    /**
     * `closed`: by the other end, see `code`; `failed`: it never opened; `silent`: no answer where
     * one was due; `token`: the token function failed; `done`: this client closed it.
     */
    readonly why: "closed" | "failed" | "silent" | "token" | "done";
    /** For people; may be empty. */
    readonly text: string;
}
/** How the client is connected. */
export type Status = {
    readonly transport: Transport;
    /** Why SockJS is in use, in words; `null` while WebSocket is. */
    readonly fallback: string | null;
} & ({
    readonly state: "connecting";
} | {
    readonly state: "connected";
    readonly node: string;
    readonly region: string;
} | {
    readonly state: "reconnecting";
    /** Tries since the connection was lost, from 1. */
    readonly attempt: number;
    /** Milliseconds from this status to the next try; 0 while it is under way. */
    readonly retry_ms: number;
    readonly reason: Ending;
}
/** It does not try again by itself; `client.reconnect()` does. */
 | {
    readonly state: "closed";
    readonly reason: Ending;
});
/** Ends a subscription. */
export type Unsubscribe = () => void;
/** A member came. */
export interface Joined<State = unknown> {
    readonly member: Member<State>;
    /** It was there before this client was. */
    readonly initial: boolean;
}
/** A member's user, state, node or `away` changed. */
export interface Updated<State = unknown> {
    readonly member: Member<State>;
    readonly before: Member<State>;
}
/** A member went. */
export interface Left<State = unknown> {
    readonly member: Member<State>;
    readonly reason: LeaveReason;
}
/** What `presence.on` tells; none of it is about this client itself. */
export interface PresenceEvents<State = unknown> {
    joined: Joined<State>;
    updated: Updated<State>;
    left: Left<State>;
}
/** A position of another member. */
export interface CursorEvent<State = unknown> {
    readonly member: Member<State>;
    readonly x: number;
    readonly y: number;
    /** The sender's clock at the sample, in milliseconds modulo 65,536. */
    readonly time_ms: number;
}
/** An event of the room. */
export interface RoomEvent<Name extends string = string, Data = unknown, State = unknown> {
    readonly name: Name;
    readonly data: Data;
    /** The member that sent it. */
    readonly from: string;
    /** The same, `null` if this client never saw it. */
    readonly member: Member<State> | null;
    /** This client sent it. */
    readonly self: boolean;
}
/** Why an event was not sent. The first five are the client's, the others the server's. */
export type DropReason = "not_connected" | "bad_name" | "bad_data" | "slow_link" | "too_big" | "too_fast" | "not_joined";
/** An event that did not go out. */
export interface Dropped {
    readonly name: string;
    readonly reason: DropReason;
}
/** Why a member could not be kept over a lost connection. */
export type RebuiltReason = "too_late" | "token_expired" | "token_invalid" | "token_wrong_subject" | "events_lost" | "superseded";
/** Something wrong with one room. */
export interface RoomError {
    /** From the server, or `bad_state` for a user or a state that cannot be sent. */
    readonly code: string;
    readonly message: string;
}
/** What `room.on` tells. */
export interface RoomEvents<State = unknown> {
    /** The room is joined for the first time; `others` is filled. */
    ready: Record<string, never>;
    /** Back as the same member; nobody saw it leave and every missed event was told. */
    recovered: Record<string, never>;
    /** Back, but something was lost. `others` is right again. */
    rebuilt: {
        readonly reason: RebuiltReason;
    };
    /** `others` changed. */
    others: readonly Member<State>[];
    status: Status;
    /** Not connected for 5 s, also where it does not try again; not after `close()`. */
    lost: Record<string, never>;
    /** Connected again after `lost`. */
    restored: Record<string, never>;
    /** An event did not go out. */
    dropped: Dropped;
    error: RoomError;
    /** The room is over for this client: it left, or was removed. */
    ended: {
        readonly reason: "closed" | "kicked" | "superseded";
    };
}
/** This client's own presence in the room. */
export interface Me<State = unknown> {
    /** As the server knows it; `null` until the room is joined. */
    readonly member: Member<State> | null;
    /** As it was last set here. */
    readonly state: Readonly<Partial<State>>;
    readonly user: Readonly<Partial<User>>;
    /**
     * Merges `state` into the own state (one level deep; a field that is `undefined` goes) and sends
     * it soon. Never throws; `false` if it cannot be sent (the room's `error` says why), and then
     * nothing changes.
     */
    set(state: Partial<State>): boolean;
    /**
     * The same for the user; what is `undefined` stays. `id` and `name` have at most 256 bytes each, and
     * any number is a hue.
     */
    setUser(user: Partial<User>): boolean;
}
/** Positions. */
export interface Cursors<State = unknown> {
    /**
     * Where the own cursor is, in the room's own coordinates. Call it as often as you like: the newest
     * goes out once per animation frame, or less often in large rooms.
     */
    set(x: number, y: number): void;
    /** The newest position of each other member that has one. */
    readonly all: readonly CursorEvent<State>[];
    /** Every position that arrives. A cursor goes with its member: see `presence.on("left")`. */
    on(fn: (cursor: CursorEvent<State>) => void): Unsubscribe;
    /**
     * Draws everyone's cursors over an element, smoothed, and sends this page's own. Loads what draws
     * (`cursormesh-ui.mjs`, from where the client came) the first time; rejects if that cannot be had.
     * Its other parts, and the types of the options, are in `cursormesh/ui`.
     */
    render(container: Element, options?: object): Promise<Overlay>;
}
/** Cursors that are being drawn. */
export interface Overlay {
    /** Do not send where the own pointer is; others see it go. */
    hideMine: boolean;
    /** Do not draw anybody's. */
    hideOthers: boolean;
    /** The container moved, or its transform changed, in a way that no scroll or resize tells. */
    update(): void;
    /** Takes everything away again. */
    stop(): void;
}
/** Ephemeral messages to everyone in the room, this client included. */
export interface Events<State = unknown, EventMap extends object = Record<string, unknown>> {
    /**
     * Says an event. `false` if it was dropped at once; the room's `dropped` says why, also when the
     * server drops it later. Nothing waits for a connection.
     */
    send<Name extends keyof EventMap & string>(name: Name, data: EventMap[Name]): boolean;
    /** Events of a name, each exactly once and in order per sender. */
    on<Name extends keyof EventMap & string>(name: Name, fn: (event: RoomEvent<Name, EventMap[Name], State>) => void): Unsubscribe;
}
/** A room, from this client's place in it. */
export interface Room<State = unknown, EventMap extends object = Record<string, unknown>> {
    readonly name: string;
    readonly me: Me<State>;
    /** Everyone else: oldest first, and a new array whenever something changed. */
    readonly others: readonly Member<State>[];
    /**
     * How many are in the room, this client included. In a room of more than 500 that is more than `others`
     * lists: of the rest the server tells once they move, say something or change their state.
     */
    readonly count: number;
    readonly cursors: Cursors<State>;
    readonly presence: {
        on<Name extends keyof PresenceEvents>(name: Name, fn: (event: PresenceEvents<State>[Name]) => void): Unsubscribe;
    };
    readonly events: Events<State, EventMap>;
    readonly status: Status;
    /** The room is joined, and what it shows is up to date. */
    readonly joined: boolean;
    on<Name extends keyof RoomEvents>(name: Name, fn: (event: RoomEvents<State>[Name]) => void): Unsubscribe;
    /** Smoothed round trip to the node in milliseconds; `null` before the first. */
    latency(): number | null;
    /** Leaves at once; the others are told `closed`. The room is over then. */
    leave(): void;
}
/** What `client.on` tells. */
export interface ClientEvents {
    status: Status;
    lost: Record<string, never>;
    restored: Record<string, never>;
}
/** A connection to the cluster, and the rooms on it. */
export interface Client {
    readonly status: Status;
    /** The room of this name; the same object until it is left. */
    room<State = Record<string, unknown>, EventMap extends object = Record<string, unknown>>(name: string, options?: RoomOptions<State>): Room<State, EventMap>;
    on<Name extends keyof ClientEvents>(name: Name, fn: (event: ClientEvents[Name]) => void): Unsubscribe;
    latency(): number | null;
    /** Tries at once, also after `closed`. */
    reconnect(): void;
    /** Leaves all rooms and closes. */
    close(): void;
}
/** What cannot be sent of it is left out, and the room's `error` says so. */
export interface RoomOptions<State = unknown> {
    user?: Partial<User>;
    state?: Partial<State>;
}
export interface ConnectOptions {
    /**
     * Where a node is: `https://host`, `wss://host/v1`, … Defaults to where the page comes from.
     * The cluster names its other nodes by itself.
     */
    url?: string;
    /** Several, the one to try first at the front. */
    urls?: readonly string[];
    /**
     * The token, or a function that gets one. A function is asked before every connection, so that a
     * token may be short-lived.
     */
    token?: string | null | (() => string | null | Promise<string | null>);
    /** Transports in the order to try them. Defaults to `["websocket", "sockjs"]`. */
    transports?: readonly Transport[];
    /** Everything in JSON, also cursors: to read along while debugging. Defaults to `false`. */
    json?: boolean;
    /**
     * Keeps resume tokens in `sessionStorage` while the page is gone, so that a reload is the same
     * member. Defaults to `true`.
     */
    persist?: boolean;
    /**
     * Finds the nearest node: measures the round trip to one node of each region, moves there if that one
     * is much nearer, and goes to the nearest that is left when a node is lost. `false`: stays where it
     * is, and goes where the cluster says. Defaults to `true`.
     */
    nearest?: boolean;
    /** Stands in for parts of the browser: tests, other runtimes. */
    environment?: Partial<Environment>;
}
/** The part of a browser's WebSocket that the client uses. */
export interface WebSocketLike {
    binaryType: string;
    readonly bufferedAmount: number;
    onopen: ((event: never) => void) | null;
    onmessage: ((event: {
        data: unknown;
    }) => void) | null;
    onclose: ((event: {
        code: number;
        reason: string;
    }) => void) | null;
    onerror: ((event: never) => void) | null;
    send(data: string | Uint8Array<ArrayBuffer>): void;
    close(code?: number, reason?: string): void;
}
/**
 * What happens to the page. `visible`, `hidden`: the tab; `online`, `offline`: the network; `hide`:
 * the page goes; `show`: it is back from the browser's back/forward cache.
 */
export type PageSignal = "visible" | "hidden" | "online" | "offline" | "hide" | "show";
/** Everything that the client takes from outside. */
export interface Environment {
    /** Milliseconds that only rise. */
    now(): number;
    /** Milliseconds since the Unix epoch: they go on while a laptop sleeps. */
    wall(): number;
    /** At least 0, less than 1. */
    random(): number;
    /** Calls `fn` after `delay_ms`; the result cancels. */
    timer(fn: () => void, delay_ms: number): () => void;
    /** Calls `fn` with the next animation frame; `null` where there is none (hidden tab, no screen). */
    frame(fn: () => void): (() => void) | null;
    /** A WebSocket. May throw. */
    webSocket(url: string, protocols: string[]): WebSocketLike;
    /** For SockJS, and to measure how near nodes are. */
    fetch(url: string, init: RequestInit): Promise<Response>;
    /** Survives a reload, private to the tab; `null` where there is none. May throw. */
    storage: {
        getItem(key: string): string | null;
        setItem(key: string, value: string): void;
        removeItem(key: string): void;
    } | null;
    /** Tells what happens to the page until the result is called. */
    watch(fn: (signal: PageSignal) => void): Unsubscribe;
    /** An error in a page's own handler. */
    report(error: unknown): void;
}

/**
 * Connects to the cluster, and keeps connected until `close()`. Throws only for an address that is
 * none.
 */
export declare function connect(options?: ConnectOptions): Client;
/** The version of this client. */
export declare const version: string;
/** For script tags. */
export as namespace cursormesh;
