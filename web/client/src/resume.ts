/**
 * Resume tokens while the page is gone.
 *
 * In use a token is in memory only. It is written to the tab's storage when the page goes and taken
 * out of it when the next one comes, so that a tab that is duplicated while it lives has nothing to
 * copy. Where two pages hold the same token all the same, the server closes the older connection as
 * superseded, and that one drops its tokens.
 */
import type { Environment } from "./api";
import type { Positions } from "./protocol";

export interface Resume {
  token: string;
  /** The newest event seen of each origin. */
  seen: Positions;
  /** When the connection was last known to be there, milliseconds since the Unix epoch. */
  seen_at: number;
}

/** As long as servers accept a token. */
const VALID_MS = 120_000;
/** Keys of clients on this page. */
const claimed = new Set<string>();

export class ResumeStore {
  readonly #key: string;

  constructor(
    private readonly env: Pick<Environment, "storage" | "wall">,
    url: string,
  ) {
    let key = `cursormesh:${url}`;
    while (claimed.has(key)) key += "#";
    claimed.add(key);
    this.#key = key;
  }

  /** What the page before left, by room; it is nobody else's from here on. */
  take(): Map<string, Resume> {
    const found = new Map<string, Resume>();
    try {
      const text = this.env.storage?.getItem(this.#key);
      if (!text) return found;
      this.env.storage?.removeItem(this.#key);
      for (const [room, resume] of Object.entries(JSON.parse(text) as Record<string, Resume>)) {
        const age_ms = this.env.wall() - resume.seen_at;
        if (typeof resume.token === "string" && age_ms >= 0 && age_ms < VALID_MS) found.set(room, resume);
      }
    } catch {
      // No storage, or not our text: the page starts as a new member.
    }
    return found;
  }

  /** Leaves it for the page after this. */
  save(rooms: ReadonlyMap<string, Resume>): void {
    try {
      if (rooms.size > 0) this.env.storage?.setItem(this.#key, JSON.stringify(Object.fromEntries(rooms)));
    } catch {
      // Full or forbidden: a reload is a new member then.
    }
  }

  /** The client is gone; another on this page may use the place. */
  release(): void {
    claimed.delete(this.#key);
  }
}
