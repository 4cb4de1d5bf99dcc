/** A page without a browser, for React. To be imported before React's DOM, which looks once whether there is one. */
import { Window } from "happy-dom";

const window = new Window({ url: "http://app.test/", width: 1000, height: 700 });
const names = [
  "window", "document", "navigator", "location", "innerWidth", "innerHeight", "matchMedia", "getComputedStyle",
  "Element", "HTMLElement", "HTMLButtonElement", "HTMLIFrameElement", "HTMLScriptElement", "ShadowRoot", "Node", "Event",
  "PointerEvent", "MouseEvent", "MutationObserver", "ResizeObserver", "DOMMatrix",
] as const;
for (const name of names) {
  const value: unknown = name === "window" ? window : window[name];
  const bound = name === "matchMedia" || name === "getComputedStyle" ? (value as typeof getComputedStyle).bind(window) : value;
  Object.defineProperty(globalThis, name, { value: bound, configurable: true, writable: true });
}

/** Node's own keeps a process alive for ever once somebody listens. */
class Channel {
  readonly port1: { onmessage: ((event: { data: unknown }) => void) | null } = { onmessage: null };
  readonly port2 = { postMessage: (data: unknown) => void setImmediate(() => this.port1.onmessage?.({ data })) };
}
Object.assign(globalThis, {
  IS_REACT_ACT_ENVIRONMENT: true,
  MessageChannel: Channel,
  requestAnimationFrame: (fn: (now_ms: number) => void) => setTimeout(() => fn(performance.now()), 1),
});
