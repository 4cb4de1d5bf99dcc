/** What `scripts/smoothing` runs. */
import { readFileSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ours, perfectCursors, raw, type Display } from "./display";
import { GOAL, conditions, type Named } from "./conditions";
import { measure, quantile, trueJumps, type Measured } from "./measure";
import { traces } from "./motion";
import { deliver } from "./path";
import { decodeTrace, encodeTrace, type Trace } from "./trace";

/** The seed of the traces that are kept. */
const MOTION_SEED = 1;
/** Runs over networks of different seeds are pooled. */
const SEEDS = [1, 2, 3, 4, 5];

const displays: Record<string, () => Display> = { raw, cursormesh: ours, "perfect-cursors": perfectCursors };
const columns = ["worst px", "p99 px", "of raw", "delay p50", "p95", "p99", "lag ms", "rms px"];

/** Several runs as one. */
interface Pooled {
  readonly jumps_px: number[];
  readonly delays_ms: number[];
  readonly lag_ms: number;
  readonly rms_px: number;
}

function main(directory: string, mode: string | undefined): void {
  if (mode === "--make") return make(directory);
  const kept = read(directory);
  const whole = mode !== "--goal";
  const missed: string[] = [];
  for (const one of conditions.filter(({ goal }) => whole || goal)) missed.push(...section(one, kept));
  console.log(missed.length === 0 ? "The goal is met." : `The goal is missed:\n${missed.join("\n")}`);
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
function section(named: Named, kept: Trace[]): string[] {
  const runs = kept.map((trace) => ({ name: trace.name, ...run(trace, named) }));
  const all = { name: "all", worst_px: Math.max(...runs.map(({ worst_px }) => worst_px)), shown: combine(runs.map(({ shown }) => shown)) };
  console.log(`\n${named.name}${named.goal ? " (the goal's)" : ""}\n`);
  console.log(row(["trace", "display", ...columns]));
  for (const { name, worst_px, shown } of named.goal ? [...runs, all] : [all]) {
    console.log(row([name, "the pointer", worst_px.toFixed(0)]));
    for (const [display, pooled] of Object.entries(shown)) console.log(row(["", display, ...figures(pooled, shown["raw"]!)]));
  }
  return named.goal ? runs.flatMap(({ name, shown }) => misses(`${named.name}, ${name}`, shown)) : [];
}

function run(trace: Trace, named: Named): { worst_px: number; shown: Record<string, Pooled> } {
  const arrivals = SEEDS.map((seed) => deliver(trace, named, seed));
  const shown = Object.entries(displays).map(([name, display]) => [name, pool(arrivals.map((one) => measure(trace, one, display())))]);
  return { worst_px: trueJumps(trace).at(-1) ?? NaN, shown: Object.fromEntries(shown) as Record<string, Pooled> };
}

function combine(runs: Record<string, Pooled>[]): Record<string, Pooled> {
  return Object.fromEntries(Object.keys(displays).map((name) => [name, pool(runs.map((run) => run[name]!))]));
}

function pool(runs: (Measured | Pooled)[]): Pooled {
  const sorted = (of: (run: Measured | Pooled) => number[]) => runs.flatMap(of).sort((a, b) => a - b);
  const mean = (of: (run: Measured | Pooled) => number) => runs.reduce((sum, run) => sum + of(run), 0) / runs.length;
  return {
    jumps_px: sorted((run) => run.jumps_px),
    delays_ms: sorted((run) => run.delays_ms),
    lag_ms: mean((run) => run.lag_ms),
    rms_px: Math.sqrt(mean((run) => run.rms_px ** 2)),
  };
}

function figures({ jumps_px, delays_ms, lag_ms, rms_px }: Pooled, beside: Pooled): string[] {
  const worst = quantile(jumps_px, 1);
  const delays = [0.5, 0.95, 0.99].map((share) => quantile(delays_ms, share).toFixed(0));
  return [worst.toFixed(0), quantile(jumps_px, 0.99).toFixed(0), (worst / quantile(beside.jumps_px, 1)).toFixed(2), ...delays, lag_ms.toFixed(0), rms_px.toFixed(1)];
}

function misses(where: string, shown: Record<string, Pooled>): string[] {
  const { raw, cursormesh } = shown;
  const share = quantile(cursormesh!.jumps_px, 1) / quantile(raw!.jumps_px, 1);
  const p95_ms = quantile(cursormesh!.delays_ms, 0.95);
  return [
    ...(share <= GOAL.jump_share ? [] : [`${where}: the worst jump is ${share.toFixed(2)} of raw's`]),
    ...(p95_ms <= GOAL.delay_p95_ms ? [] : [`${where}: the added delay's p95 is ${p95_ms.toFixed(0)} ms`]),
  ];
}

function row(cells: string[]): string {
  const widths = [10, 16, ...columns.map((name) => Math.max(name.length, 5))];
  return cells.map((cell, i) => (i < 2 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join("  ").trimEnd();
}

main(process.argv[2]!, process.argv[3]);
