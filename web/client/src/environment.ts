import type { Environment, WebSocketLike } from "./api";

/** The browser, or what there is of one. */
export function browserEnvironment(): Environment {
  const page = typeof document === "undefined" ? null : document;
  return {
    now: () => performance.now(),
    wall: () => Date.now(),
    // Session ids are made of it, and whoever can guess one can speak for its owner.
    random: () => (crypto.getRandomValues(new Uint32Array(1))[0] ?? 0) / 2 ** 32,
    timer(fn, delay_ms) {
      const id = setTimeout(fn, delay_ms);
      return () => clearTimeout(id);
    },
    frame(fn) {
      if (!page || page.visibilityState === "hidden" || typeof requestAnimationFrame === "undefined") return null;
      const id = requestAnimationFrame(fn);
      return () => cancelAnimationFrame(id);
    },
    webSocket: (url, protocols) => new WebSocket(url, protocols) as unknown as WebSocketLike,
    fetch: (url, init) => fetch(url, init),
    storage: storage(),
    watch(fn) {
      if (!page) return () => {};
      const stop = new AbortController();
      const { signal } = stop;
      page.addEventListener("visibilitychange", () => fn(page.visibilityState === "hidden" ? "hidden" : "visible"), { signal });
      window.addEventListener("online", () => fn("online"), { signal });
      window.addEventListener("offline", () => fn("offline"), { signal });
      window.addEventListener("pagehide", () => fn("hide"), { signal });
      window.addEventListener("pageshow", (event) => event.persisted && fn("show"), { signal });
      return () => stop.abort();
    },
    report: (error) => (typeof reportError === "function" ? reportError(error) : console.error(error)),
  };
}

/** Reading the property alone throws where the page may not store anything. */
function storage(): Environment["storage"] {
  try {
    return sessionStorage;
  } catch {
    return null;
  }
}
