// A wire between browsers and a node that can be pulled out: what TCP does when there is no network.

import { once } from "node:events";
import net from "node:net";

/** Forwards TCP connections from a port of its own to `port`, until told otherwise. */
export class Link {
  #server;
  #pairs = new Set();
  #pulled = false;

  static async open(port) {
    const link = new Link();
    link.#server = net.createServer((near) => link.#forward(near, port));
    link.#server.listen(0, "127.0.0.1");
    await once(link.#server, "listening");
    return link;
  }

  get port() {
    return this.#server.address().port;
  }

  /** No byte passes in either direction, and nobody is told; new connections get no answer. */
  pull() {
    this.#pulled = true;
    for (const pair of this.#pairs) pair.hush();
  }

  /** Bytes pass again. Connections that were there go on, late, unless they are `dead`. */
  plug({ dead = false } = {}) {
    this.#pulled = false;
    for (const pair of this.#pairs) if (!dead) pair.pass();
  }

  /**
   * Ends every connection without a close frame: at the browser's end, at the node's or at both. The
   * end that is not told keeps a connection that never says anything.
   */
  cut(ends = {}) {
    for (const pair of this.#pairs) pair.cut(ends);
  }

  async close() {
    this.#server.close();
    this.cut();
    await once(this.#server, "close");
  }

  #forward(near, port) {
    near.setNoDelay(true);
    const far = net.connect({ port, host: "127.0.0.1", noDelay: true });
    const pair = new Pair(near, far, () => this.#pairs.delete(pair));
    this.#pairs.add(pair);
    if (!this.#pulled) pair.pass();
  }
}

/** A connection, as the browser's end and the node's. */
class Pair {
  #ends;
  #passes = false;

  constructor(near, far, gone) {
    this.#ends = [near, far];
    for (const [end, other] of [[near, far], [far, near]]) {
      end.on("error", () => {});
      end.on("close", () => {
        // What happens to one end the other sees, unless the wire is out.
        if (this.#passes) other.destroy();
        if (other.destroyed) gone();
      });
    }
  }

  pass() {
    const [near, far] = this.#ends;
    if (this.#passes || near.destroyed || far.destroyed) return;
    this.#passes = true;
    near.pipe(far);
    far.pipe(near);
  }

  hush() {
    this.#passes = false;
    for (const end of this.#ends) {
      end.unpipe();
      end.pause();
    }
  }

  cut({ near = true, far = true }) {
    this.hush();
    if (near) this.#ends[0].destroy();
    if (far) this.#ends[1].destroy();
  }
}
