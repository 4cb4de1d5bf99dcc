import { useEffect, useMemo, useRef, useSyncExternalStore } from "react";
import type { Unsubscribe } from "../api";

/** A part of the page that changes by itself. `get` gives the same object until it is another one. */
export interface Source<Value> {
  subscribe: (fn: () => void) => Unsubscribe;
  get: () => Value;
  /** What a server shows, and the page while it takes over from there. */
  initial: () => Value;
}

/** Renders again when what `selector` takes of the source is no longer equal to what it was. */
export function useSelection<Value, Selection>(
  { subscribe, get, initial }: Source<Value>,
  selector: (value: Value) => Selection,
  isEqual: (a: Selection, b: Selection) => boolean,
): Selection {
  const shown = useRef<{ selection: Selection } | null>(null);
  const [select, selectInitial] = useMemo(() => {
    let last: { value: Value; selection: Selection } | null = null;
    const select = (value: Value) => {
      if (last && Object.is(last.value, value)) return last.selection;
      const next = selector(value);
      // A selector that is a new function in each render must not make an equal selection a new one.
      const before = last ?? shown.current;
      const selection = before && isEqual(before.selection, next) ? before.selection : next;
      last = { value, selection };
      return selection;
    };
    return [() => select(get()), () => select(initial())];
  }, [get, initial, selector, isEqual]);
  const selection = useSyncExternalStore(subscribe, select, selectInitial);
  useEffect(() => {
    shown.current = { selection };
  }, [selection]);
  return selection;
}
