/** What `scripts/smoothing` runs: `node table.mjs DIRECTORY [--make | --goal | --fresh SEED]`. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { conditions, misses, type Named } from "./conditions";
import { frameCost_us } from "./cost";
import { ours, perfectCursors, play, raw, type Display } from "./display";
import { measure, nearest, pool, quantile, trueJumps, type Measured, type Nearest } from "./measure";
import { traces } from "./motion";
import { deliver } from "./path";
import { decodeTrace, encodeTrace, type Trace } from "./trace";

/** The seed of the traces that are kept. */
const MOTION_SEED = 1;
/** Runs over networks of different seeds are pooled. */
const SEEDS = [1, 2, 3, 4, 5];

type Name = "raw" | "cursormesh" | "perfect-cursors";
const displays: readonly [Name, () => Display][] = [
  ["raw", raw],
  ["cursormesh", ours],
  ["perfect-cursors", perfectCursors],
];
const columns = ["worst px", "p99 px", "of raw", "delay p50", "p95", "p99", "lag ms", "rms px"];

interface Row extends Measured, Nearest {}
type Rows = Record<Name, Row>;

function main([directory = ".", mode, seed]: string[]): void {
  if (mode === "--make") return make(directory);
  const kept = mode === "--fresh" ? traces(Number(seed)) : read(directory);
  const missed = conditions.filter(({ goal }) => goal || mode !== "--goal").flatMap((named) => section(named, kept));
  const { add, at } = frameCost_us();
  console.log(`\n200 cursors at 60 frames per second, here and now: ${add.toFixed(0)} us to add and ${at.toFixed(0)} us to place them, per frame`);
  console.log(missed.length === 0 ? "\nThe goal is met." : `\nThe goal is missed:\n${missed.join("\n")}`);
  process.exitCode = missed.length === 0 ? 0 : 1;
}

function make(directory: string): void {
  for (const trace of traces(MOTION_SEED)) writeFileSync(join(directory, `${trace.name}.csv`), encodeTrace(trace));
}

function read(directory: string): Trace[] {
  return readdirSync(directory)
    .filter((name) => name.endsWith(".csv"))
    .sort()
    .map((name) => decodeTrace(name.slice(0, -".csv".length), readFileSync(join(directory, name), "utf8")));
}

/** Prints one condition; what misses the goal, in words. */
function section(named: Named, kept: readonly Trace[]): string[] {
  const runs = kept.map((trace) => run(trace, named));
  console.log(`\n${named.name}${named.goal ? " (the goal's)" : ""}\n`);
  console.log(line(["trace", "display", ...columns]));
  if (named.goal) kept.forEach((trace, i) => print(trace.name, [trace], runs[i]!));
  print("all", kept, combine(runs));
  if (!named.goal) return [];
  return kept.flatMap(({ name }, i) => misses(runs[i]!.raw, runs[i]!.cursormesh).map((text) => `${named.name}, ${name}: ${text}`));
}

function run(trace: Trace, named: Named): Rows {
  const arrivals = SEEDS.map((seed) => deliver(trace, named, seed));
  return rows((_, display) =>
    combined(
      arrivals.map((one) => {
        const frames = play(one, display());
        return { ...measure(one, frames), ...nearest(trace, frames) };
      }),
    ),
  );
}

function combine(runs: readonly Rows[]): Rows {
  return rows((name) => combined(runs.map((one) => one[name])));
}

function rows(make: (name: Name, display: () => Display) => Row): Rows {
  return Object.fromEntries(displays.map(([name, display]) => [name, make(name, display)])) as Rows;
}

function combined(runs: readonly Row[]): Row {
  const mean = (of: (row: Row) => number) => runs.reduce((sum, row) => sum + of(row), 0) / runs.length;
  return { ...pool(runs), lag_ms: mean(({ lag_ms }) => lag_ms), rms_px: Math.sqrt(mean(({ rms_px }) => rms_px ** 2)) };
}

function print(name: string, of: readonly Trace[], shown: Rows): void {
  const jumps = of.flatMap(trueJumps).sort((a, b) => a - b);
  console.log(line([name, "the pointer", quantile(jumps, 1).toFixed(0), quantile(jumps, 0.99).toFixed(0)]));
  for (const [display] of displays) console.log(line(["", display, ...figures(shown[display], shown.raw)]));
}

function figures({ jumps_px, delays_ms, lag_ms, rms_px }: Row, beside: Row): string[] {
  const worst = quantile(jumps_px, 1);
  const delays = [0.5, 0.95, 0.99].map((share) => quantile(delays_ms, share).toFixed(0));
  const share = (worst / quantile(beside.jumps_px, 1)).toFixed(2);
  return [worst.toFixed(0), quantile(jumps_px, 0.99).toFixed(0), share, ...delays, lag_ms.toFixed(0), rms_px.toFixed(1)];
}

function line(cells: readonly string[]): string {
  const widths = [10, 16, ...columns.map((name) => Math.max(name.length, 5))];
  return cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ").trimEnd();
}

main(process.argv.slice(2));
