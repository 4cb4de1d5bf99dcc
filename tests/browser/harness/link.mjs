// A wire between browsers and a node that can be pulled out: what TCP does when there is no network.

import { once } from "node:events";
import net from "node:net";
import { Transform } from "node:stream";

/** Forwards TCP connections from a port of its own to `port`, until told otherwise. */
export class Link {
  #server;
  #pairs = new Set();
  #pulled = false;
  #delay_ms = 0;

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

  /** From now on every byte of new connections takes so long, each way. */
  delay(ms) {
    this.#delay_ms = ms;
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
    const pair = new Pair(near, far, this.#delay_ms, () => this.#pairs.delete(pair));
    this.#pairs.add(pair);
    if (!this.#pulled) pair.pass();
  }
}

/** Holds what passes back for `ms`; what comes meanwhile is not held up by it. */
function late(ms) {
  const held = new Transform({
    transform(chunk, _, done) {
      setTimeout(() => {
        if (!held.destroyed) held.push(chunk);
      }, ms);
      done();
    },
    flush(done) {
      setTimeout(done, ms);
    },
  });
  return held;
}

/** A connection, as the browser's end and the node's. */
class Pair {
  #ends;
  #delay_ms;
  #passes = false;

  constructor(near, far, delay_ms, gone) {
    this.#ends = [near, far];
    this.#delay_ms = delay_ms;
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
    for (const [from, to] of [[near, far], [far, near]]) {
      if (this.#delay_ms > 0) from.pipe(late(this.#delay_ms)).pipe(to);
      else from.pipe(to);
    }
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
