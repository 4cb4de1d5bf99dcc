import { createElement, useCallback, useEffect, useRef, type CSSProperties, type ReactElement, type ReactNode } from "react";
import type { Overlay } from "../api";
import type { RenderOptions, SmoothCursor, SmoothOptions } from "../ui";
import { useDrawing } from "./drawing";
import { useLatest } from "./latest";
import { useSteady } from "./steady";

/** The options of `render` in `cursormesh/ui`; functions in them may be new in each render. */
export interface CursorsProps extends RenderOptions {
  /** Do not send where the own pointer is. */
  hideMine?: boolean;
  /** Do not draw anybody's. */
  hideOthers?: boolean;
  /** Over the whole page, wherever the component stands. */
  page?: boolean;
  /** Is given the overlay while there is one, for `update()` and for what else `cursormesh/ui` draws on it. */
  overlayRef?: { current: Overlay | null };
  /** What the cursors are drawn over, in a `div`. Without children: the element that the component stands in. */
  children?: ReactNode;
  /** Of the `div`. */
  className?: string;
  style?: CSSProperties;
}

/** Draws everyone's cursors, and sends where the own pointer is. At most one of them per room. */
export function Cursors(props: CursorsProps): ReactElement | null {
  const { hideMine = false, hideOthers = false, page = false, overlayRef, children, className, style, ...options } = props;
  const wraps = children !== undefined;
  const element = useRef<HTMLElement | null>(null);
  const overlay = useRef<Overlay | null>(null);
  const hidden = useLatest({ hideMine, hideOthers });
  const steady = useSteady(options);
  const draw = useCallback<Parameters<typeof useDrawing>[1]>(
    (ui, room) => {
      const container = page ? document.documentElement : wraps ? element.current : element.current?.parentElement;
      if (!container) return null;
      const drawn = Object.assign(ui.render(room, container, steady), hidden.current);
      give(drawn);
      return {
        stop() {
          drawn.stop();
          give(null);
        },
      };
      function give(given: Overlay | null): void {
        overlay.current = given;
        if (overlayRef) overlayRef.current = given;
      }
    },
    [page, wraps, steady, hidden, overlayRef],
  );
  useDrawing("Cursors", draw);
  useEffect(() => {
    if (overlay.current) Object.assign(overlay.current, { hideMine, hideOthers });
  }, [hideMine, hideOthers]);
  const { coordinates } = options;
  // Other functions, another view.
  useEffect(() => overlay.current?.update(), [coordinates]);
  if (page && !wraps) return null;
  return wraps ? createElement("div", { ref: element, className, style }, children) : createElement("span", { ref: element, hidden: true });
}

/**
 * Calls `fn`, the newest that was given, in each frame in which a cursor moved, came or went, with all of
 * them, smoothed, in the room's own coordinates. Never renders again: move elements by their refs.
 */
export function useCursors<State = Record<string, unknown>>(
  fn: (cursors: readonly SmoothCursor<State>[]) => void,
  options: SmoothOptions = {},
): void {
  const latest = useLatest(fn);
  const steady = useSteady(options);
  const draw = useCallback<Parameters<typeof useDrawing>[1]>(
    (ui, room) => {
      const cursors = ui.smooth(room, steady);
      cursors.on((all) => latest.current(all as readonly SmoothCursor<State>[]));
      return cursors;
    },
    [latest, steady],
  );
  useDrawing("useCursors", draw);
}
