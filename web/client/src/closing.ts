/** What each close code means for the client: the table of docs/browser-protocol.md. */

export interface Verdict {
  /**
   * `never`: the same would happen again; `token`: only with a fresh token; `at_once`: the first
   * try without a wait; `backoff`: as the back-off says; `minute`: a bug that may be mended
   * meanwhile.
   */
  retry: "never" | "token" | "at_once" | "spread" | "backoff" | "minute";
  /** Try another node first. */
  move: boolean;
  /** The server's wish for the wait. */
  retry_ms: number | null;
}

/** `code` is `null` where the client gave up by itself. */
export function verdict(code: number | null, text: string): Verdict {
  const retry_ms = wish(text);
  switch (code) {
    case 1000:
    case 4400:
    case 4403:
      return { retry: "never", move: false, retry_ms };
    case 1001:
      return { retry: "at_once", move: false, retry_ms };
    case 1002:
    case 1007:
      return { retry: "minute", move: false, retry_ms };
    case 1012:
      return { retry: "spread", move: true, retry_ms };
    case 4401:
      return { retry: "token", move: false, retry_ms };
    case 1009:
    case 4408:
    case 4409:
    case 4429:
      return { retry: "backoff", move: false, retry_ms };
    default:
      return { retry: "backoff", move: true, retry_ms };
  }
}

/** The longest wait that a server can ask for. */
const WISH_MS_MAX = 60_000;

function wish(text: string): number | null {
  if (!text.startsWith("{")) return null;
  try {
    const ms: unknown = JSON.parse(text).retry_ms;
    return typeof ms === "number" && ms >= 0 ? Math.min(ms, WISH_MS_MAX) : null;
  } catch {
    return null;
  }
}
