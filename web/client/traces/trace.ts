/** A pointer event as a page gets it: whole CSS pixels, milliseconds since the start. */
export interface PointerMove {
  readonly t_ms: number;
  readonly x: number;
  readonly y: number;
}

export interface Trace {
  readonly name: string;
  /** Oldest first; a pointer that stands still sends nothing. */
  readonly moves: readonly PointerMove[];
}

/** A line per event: milliseconds, x and y, each since the line before. */
export function encodeTrace({ moves }: Trace): string {
  let last: PointerMove = { t_ms: 0, x: 0, y: 0 };
  return moves
    .map((move) => {
      const line = `${move.t_ms - last.t_ms},${move.x - last.x},${move.y - last.y}\n`;
      last = move;
      return line;
    })
    .join("");
}

/** Throws on a line that is not three whole numbers, and on time that goes back. */
export function decodeTrace(name: string, text: string): Trace {
  let last: PointerMove = { t_ms: 0, x: 0, y: 0 };
  const moves = text
    .trimEnd()
    .split("\n")
    .map((line, i) => {
      const [dt = NaN, dx = NaN, dy = NaN, ...more] = line.split(",").map(Number);
      if (![dt, dx, dy].every(Number.isInteger) || more.length > 0 || dt < 0) throw new Error(`${name}, line ${i + 1}: ${line}`);
      last = { t_ms: last.t_ms + dt, x: last.x + dx, y: last.y + dy };
      return last;
    });
  return { name, moves };
}

/** Where the pointer was; it stood still between events. Calls must not go back in time. */
export function follower({ moves }: Trace): (t_ms: number) => PointerMove {
  let at = 0;
  return (t_ms) => {
    while (at + 1 < moves.length && moves[at + 1]!.t_ms <= t_ms) at++;
    return moves[at]!;
  };
}
