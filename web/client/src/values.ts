/**
 * What a page gives, made into what a server takes. A message that it does not take closes the
 * connection with all its rooms, which one wrong value must not do.
 */
import type { User } from "./api";

const USER_BYTES = 256;
/** Objects and arrays in a message, itself included, may nest this deep. */
const NESTING_MAX = 128;

/** JSON that may stand in a message; `null` for what is none, or throws. */
export function toText(make: () => unknown): string | null {
  try {
    const text = JSON.stringify(make()) ?? null;
    return text !== null && nests(JSON.parse(text), NESTING_MAX - 1) ? text : null;
  } catch {
    return null;
  }
}

function nests(value: unknown, levels: number): boolean {
  if (typeof value !== "object" || value === null) return true;
  return levels > 0 && Object.values(value).every((one) => nests(one, levels - 1));
}

/** Bytes in UTF-8. */
export function size(text: string): number {
  return new TextEncoder().encode(text).length;
}

/** Without half characters, as a name that was cut within an emoji ends with. */
export function whole(text: unknown): string {
  return String(text).replace(/\p{Cs}/gu, "\ufffd");
}

/** What of a user can be sent: any number as a hue, any text or number as id or name. `null` for what is none, or throws. */
export function toUser(make: () => Partial<User>): Partial<User> | null {
  try {
    const user: Partial<User> = {};
    for (const [key, value] of Object.entries(make())) {
      if (value === undefined) continue;
      if (key === "color") {
        if (!Number.isFinite(value)) return null;
        user.color = ((Math.round(value as number) % 360) + 360) % 360;
      } else if (key === "id" || key === "name") {
        const text = whole(value);
        if (typeof value === "object" || size(text) > USER_BYTES) return null;
        user[key] = text;
      }
    }
    return user;
  } catch {
    return null;
  }
}
