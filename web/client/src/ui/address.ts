/** The room of a page, from its address. */

/** Bytes of a room's name. */
const ROOM_BYTES_MAX = 200;

/** Everything before `?` and `#`; shortened to its beginning and a hash where that is too long. */
export function roomOf({ protocol, host, pathname }: Pick<Location, "protocol" | "host" | "pathname">): string {
  const address = `${protocol}//${host}${pathname}`;
  const { length } = new TextEncoder().encode(address);
  if (length <= ROOM_BYTES_MAX) return address;
  // Paths are percent-encoded, so that characters are bytes; hosts are ASCII.
  return `${address.slice(0, ROOM_BYTES_MAX - 17)}~${hash(address)}`;
}

/** FNV-1a of 64 bits, as 16 hex digits: no secret, and there on pages without TLS, too. */
function hash(text: string): string {
  let value = 0xcbf29ce484222325n;
  for (const byte of new TextEncoder().encode(text)) value = BigInt.asUintN(64, (value ^ BigInt(byte)) * 0x100000001b3n);
  return value.toString(16).padStart(16, "0");
}
