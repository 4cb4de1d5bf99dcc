import type { Unsubscribe } from "../api";
import { isPage } from "./surface";

/** What moves a container and tells nobody is noticed after this long. */
const LOOK_MS = 500;

/**
 * Tells when a container may have moved on the screen, changed its size or scrolled. `scrolled`: what is
 * under a pointer that stands still is another now.
 */
export function watchLayout(container: Element, changed: (scrolled: boolean) => void): Unsubscribe {
  const document = container.ownerDocument;
  const window = document.defaultView;
  const stop = new AbortController();
  const options = { passive: true, capture: true, signal: stop.signal };
  const on = (target: EventTarget | null | undefined, names: string, scrolled: boolean) => {
    for (const name of names.split(" ")) target?.addEventListener(name, () => changed(scrolled), options);
  };
  on(document, "scroll", true);
  on(window, "resize", true);
  on(window?.visualViewport, "resize scroll", false);
  on(document, "load transitionend animationend toggle fullscreenchange", false);
  const sizes = new ResizeObserver(() => changed(true));
  for (const one of isPage(container) ? [document.documentElement, document.body] : [container]) if (one) sizes.observe(one);
  const look = setInterval(() => document.visibilityState === "visible" && changed(false), LOOK_MS);
  return () => {
    stop.abort();
    sizes.disconnect();
    clearInterval(look);
  };
}
