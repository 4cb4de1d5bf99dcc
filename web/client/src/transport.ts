import type { Environment, Transport } from "./api";

/** A way for bytes, from its opening to its end. */
export interface Socket {
  readonly transport: Transport;
  /** Bytes that wait to go out. */
  readonly buffered: number;
  /** Binary only on transports that can. */
  send(data: string | Uint8Array<ArrayBuffer>): void;
  /** Nothing is told after it. */
  close(code: number, reason: string): void;
}

/** What a socket tells: `open` at most once, `closed` once. */
export interface SocketEvents {
  open(): void;
  text(text: string): void;
  bytes(bytes: ArrayBuffer): void;
  closed(code: number, reason: string): void;
}

/** Opens a socket to `url` (`ws:` or `wss:`). */
export type OpenSocket = (env: Environment, url: string, protocol: string, events: SocketEvents) => Socket;
