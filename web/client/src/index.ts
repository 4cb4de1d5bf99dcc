import type { Client, ConnectOptions } from "./api";
import { ClientCore } from "./client";

export type * from "./api";
export { VERSION as version } from "./version";

/** Where this script came from, if a script tag loaded it: the node to talk to. */
const script = typeof document !== "undefined" && document.currentScript instanceof HTMLScriptElement ? document.currentScript.src : null;

/**
 * Connects to the cluster, and keeps connected until `close()`. Throws only for an address that is
 * none.
 */
export function connect(options: ConnectOptions = {}): Client {
  const here = script || (typeof location === "undefined" ? null : location.href);
  return new ClientCore(options, here === null ? null : new URL("/v1", here).href, () =>
    // Built as files of their own, beside this one.
    import("./transport/sockjs").then(({ openSockjs }) => openSockjs),
    () => import("./nearest").then(({ lookAround }) => lookAround),
  );
}
