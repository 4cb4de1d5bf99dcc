import { useInsertionEffect, useRef } from "react";

/** The newest of what a component was given, for what outlives a render. Not to be read while rendering. */
export function useLatest<Value>(value: Value): { readonly current: Value } {
  const latest = useRef(value);
  // Before all other effects, so that none of them sees an older one.
  useInsertionEffect(() => {
    latest.current = value;
  });
  return latest;
}
