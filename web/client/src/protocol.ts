/**
 * Browser protocol v1 as types tagged by `type`: the twin of the server's, tested on the same files
 * (`web/protocol/*.json`). Numbers of 64 bits are decimal text.
 */
import type { DropReason, LeaveReason, RebuiltReason, User } from "./api";

export const SUBPROTOCOL = "cursormesh.v1";
export const SUBPROTOCOL_JSON = "cursormesh.v1.json";
/** The newest version spoken. `welcome` says that of the connection: what is newer is not said on it. */
export const PROTOCOL = 2;

/** The newest number of each origin. */
export type Positions = Record<string, string>;

export interface WireMember {
  id: string;
  /** Stands for the member in cursor frames of this node and room. */
  alias: number;
  user: User;
  state: unknown;
  node: string;
  joined_at: number;
  away: boolean;
}

export interface Limits {
  rooms: number;
  state_bytes: number;
  event_bytes: number;
  message_bytes: number;
}

export interface Welcome {
  type: "welcome";
  connection: string;
  /** The version of the connection; a node of version 1 does not say it. */
  protocol?: number;
  node: string;
  region: string;
  ping_ms: number;
  dead_ms: number;
  nodes: { node: string; region: string; url?: string }[];
  limits: Limits;
}

export interface Join {
  type: "join";
  room: string;
  user?: Partial<User>;
  state?: unknown;
  resume?: { token: string; seen: Positions; away_ms: number };
}

export interface JoinedMessage {
  type: "joined";
  room: string;
  number: number;
  self: WireMember;
  token: string;
  token_ms: number;
  outcome: "new" | "recovered" | "rebuilt";
  reason?: RebuiltReason;
  positions: Positions;
}

export interface Snapshot {
  type: "snapshot";
  room: string;
  version: string;
  members: WireMember[];
  more: boolean;
  /** How many more there are. */
  unlisted?: number;
}

export interface Presence {
  type: "presence";
  room: string;
  version: string;
  joined?: WireMember[];
  updated?: WireMember[];
  left?: { id: string; reason: LeaveReason }[];
  /** As in a snapshot; left out if it is as before. */
  unlisted?: number;
}

export interface EventMessage {
  type: "event";
  room: string;
  from: string;
  name: string;
  data: unknown;
  /** Origin, and its number there. */
  at: [string, string];
}

/** Where the events of origins begin, learnt after the join. */
export interface PositionsMessage {
  type: "positions";
  room: string;
  positions: Positions;
}

export type ClientMessage =
  | { type: "hello"; client: string; protocol: number; token?: string | undefined }
  | { type: "ping"; t: number }
  | Join
  | { type: "update"; room: string; user?: Partial<User>; state?: unknown }
  | { type: "leave"; room: string }
  | { type: "event"; room: string; name: string; data: unknown; ref?: number }
  | { type: "cursor"; room: string; t: number; x: number; y: number };

/** Messages of one room. */
export type RoomMessage =
  | JoinedMessage
  | Snapshot
  | Presence
  | EventMessage
  | PositionsMessage
  | { type: "token"; room: string; token: string }
  | { type: "left"; room: string; reason?: "closed" | "kicked" | "superseded" }
  | { type: "refused"; room: string; ref?: number; reason: DropReason }
  | { type: "cursors"; room: string; c: [alias: number, t: number, x: number, y: number][] }
  | { type: "pressure"; room: string; interval_ms: number }
  | { type: "error"; room: string; code: string; message: string; retry: boolean };

export type ServerMessage = Welcome | { type: "pong"; t: number; time: number } | RoomMessage;

/**
 * A message from its text; `null` for what is not an object with a `type`. Types that are not known
 * here pass: who reads them ignores them, so that a newer server may say more.
 */
export function parse(text: string): ServerMessage | null {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    return null;
  }
  return typeof value === "object" && value !== null && typeof (value as { type?: unknown }).type === "string"
    ? (value as ServerMessage)
    : null;
}

/** Whether decimal text `a` is a larger number than `b`. */
export function isAfter(a: string, b: string): boolean {
  return a.length === b.length ? a > b : a.length > b.length;
}

/** Proves to the compiler that a switch has a case for everything. */
export function assertNever(value: never): never {
  throw new Error(`unexpected ${JSON.stringify(value)}`);
}
