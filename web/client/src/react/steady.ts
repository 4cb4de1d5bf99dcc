import { useMemo } from "react";
import { useLatest } from "./latest";

/**
 * The same object for as long as nothing but its functions is new, also in the objects within it; those
 * that it has call the newest. So options may be written where they are used.
 */
export function useSteady<Options extends object>(options: Options): Options {
  const latest = useLatest(options);
  const shape = JSON.stringify(options, (_, value: unknown) => (typeof value === "function" ? "function" : value));
  // `shape` stands for the options.
  return useMemo(() => steady(options, () => latest.current), [shape, latest]);
}

function steady<Options extends object>(options: Options, newest: () => Options | undefined): Options {
  const parts = Object.entries(options).map(([name, value]: [string, unknown]) => {
    const part = () => newest()?.[name as keyof Options] as unknown;
    if (typeof value === "function") return [name, (...given: unknown[]) => (part() as ((...given: unknown[]) => unknown) | undefined)?.(...given)];
    return [name, typeof value === "object" && value !== null ? steady(value, part as () => object | undefined) : value];
  });
  return Object.fromEntries(parts) as Options;
}
