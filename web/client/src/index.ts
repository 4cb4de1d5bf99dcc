import type { Client, ConnectOptions } from "./api";
import { ClientCore } from "./client";

export type * from "./api";
export { VERSION as version } from "./version";

/** The tag that loaded this script, if one did: its node is the one to talk to. */
const script = typeof document !== "undefined" && document.currentScript instanceof HTMLScriptElement ? document.currentScript : null;
// Built as files of their own, beside this one.
const loadUi = () => import("./ui");

/**
 * Connects to the cluster, and keeps connected until `close()`. Throws only for an address that is
 * none.
 */
export function connect(options: ConnectOptions = {}): Client {
  const here = script?.src || (typeof location === "undefined" ? null : location.href);
  return new ClientCore(options, here === null ? null : new URL("/v1", here).href, () =>
    import("./transport/sockjs").then(({ openSockjs }) => openSockjs),
    () => import("./nearest").then(({ lookAround }) => lookAround),
    loadUi,
  );
}

// `data-room` on the tag: this page needs no other code.
if (script?.dataset.room) void loadUi().then(({ dropIn }) => dropIn(connect, script));
