/**
 * Cursor frames: little-endian; `u8 kind, u8 flags, u16 count, u32 room number`, then records.
 * Client to server (kind 1): `u16 time_ms, f32 x, f32 y`. Server to client (kind 2): a `u16 alias`
 * in front of the same.
 */

const FROM_CLIENT = 1;
const FROM_SERVER = 2;
const HEADER_BYTES = 8;
const SAMPLE_BYTES = 10;
const RECORD_BYTES = 12;
const FULL = 1;

/** A position at a moment of the sender's clock, milliseconds modulo 65,536. */
export interface Sample {
  time_ms: number;
  x: number;
  y: number;
}

export interface CursorFrame {
  /** A full set: after a join, or after the connection lagged. */
  full: boolean;
  /** The room's number. */
  number: number;
  records: (Sample & { alias: number })[];
}

/** A frame for the server; of several samples the last is the one that counts. */
export function encodeCursor(number: number, samples: readonly Sample[]): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(HEADER_BYTES + SAMPLE_BYTES * samples.length));
  view.setUint8(0, FROM_CLIENT);
  view.setUint16(2, samples.length, true);
  view.setUint32(4, number, true);
  samples.forEach(({ time_ms, x, y }, i) => {
    const at = HEADER_BYTES + SAMPLE_BYTES * i;
    view.setUint16(at, time_ms, true);
    view.setFloat32(at + 2, x, true);
    view.setFloat32(at + 6, y, true);
  });
  return new Uint8Array(view.buffer);
}

/**
 * A frame from the server; `null` for another kind or a wrong length. Records whose position is not
 * finite are left out.
 */
export function decodeCursors(bytes: ArrayBuffer): CursorFrame | null {
  if (bytes.byteLength < HEADER_BYTES) return null;
  const view = new DataView(bytes);
  const count = view.getUint16(2, true);
  if (view.getUint8(0) !== FROM_SERVER || bytes.byteLength !== HEADER_BYTES + RECORD_BYTES * count) return null;
  const records: CursorFrame["records"] = [];
  for (let at = HEADER_BYTES; at < bytes.byteLength; at += RECORD_BYTES) {
    const x = view.getFloat32(at + 4, true);
    const y = view.getFloat32(at + 8, true);
    if (Number.isFinite(x) && Number.isFinite(y)) {
      records.push({ alias: view.getUint16(at, true), time_ms: view.getUint16(at + 2, true), x, y });
    }
  }
  return { full: (view.getUint8(1) & FULL) !== 0, number: view.getUint32(4, true), records };
}
