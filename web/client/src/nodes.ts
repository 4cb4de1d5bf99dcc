import type { Welcome } from "./protocol";

/** The addresses to try, the current one first, then as the cluster ranked them. */
export class Nodes {
  #urls: string[];
  readonly #given: readonly string[];

  constructor(urls: readonly string[]) {
    this.#given = urls;
    this.#urls = [...urls];
  }

  get current(): string {
    return this.#urls[0] ?? "";
  }

  get count(): number {
    return this.#urls.length;
  }

  /** The next one; the current one becomes the last. */
  move(): void {
    const first = this.#urls.shift();
    if (first !== undefined) this.#urls.push(first);
  }

  /** `url` is the current one. */
  choose(url: string): void {
    this.#urls = [...new Set([url, ...this.#urls])];
  }

  /** `order` comes after the current one, nearest first. */
  rank(order: readonly string[]): void {
    this.#urls = [...new Set([this.current, ...order, ...this.#urls])];
  }

  /** What the node just reached knows of its neighbours. */
  learn(welcome: Welcome): void {
    const others: string[] = [];
    const same: string[] = [];
    for (const { node, url } of welcome.nodes) {
      const address = url === undefined ? null : endpoint(url);
      if (address !== null) (node === welcome.node ? same : others).push(address);
    }
    // Its own address is another name for where we are: worth a try only after all others.
    this.#urls = [...new Set([this.current, ...others, ...this.#given, ...same])];
  }
}

/** `http://host` → `ws://host/v1`; `null` for what is no address. */
export function endpoint(url: string, base?: string): string | null {
  let parsed: URL;
  try {
    parsed = new URL(url, base);
  } catch {
    return null;
  }
  if (!/^(https?|wss?):$/.test(parsed.protocol)) return null;
  parsed.protocol = /^(https|wss):$/.test(parsed.protocol) ? "wss:" : "ws:";
  if (parsed.pathname === "/") parsed.pathname = "/v1";
  parsed.hash = "";
  return parsed.href;
}
