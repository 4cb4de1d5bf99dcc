/** A page without a browser, for React. To be imported before React's DOM, which looks once whether there is one. */
import { Window } from "happy-dom";

const window = new Window({ url: "http://app.test/" });
for (const name of ["window", "document", "navigator", "location", "HTMLElement", "HTMLIFrameElement", "HTMLScriptElement", "Element", "Node", "Event", "MutationObserver"] as const) {
  Object.defineProperty(globalThis, name, { value: name === "window" ? window : window[name], configurable: true, writable: true });
}
Object.assign(globalThis, { IS_REACT_ACT_ENVIRONMENT: true });

/** Node's own keeps a process alive for ever once somebody listens. */
class Channel {
  readonly port1: { onmessage: ((event: { data: unknown }) => void) | null } = { onmessage: null };
  readonly port2 = { postMessage: (data: unknown) => void setImmediate(() => this.port1.onmessage?.({ data })) };
}
Object.assign(globalThis, { MessageChannel: Channel });
