// Which node the page's client goes to. The client finds nodes by itself; while the visitor has chosen
// one, its WebSockets are led there. The client then comes back as after any lost connection: the same
// member with the same room, and nobody sees it leave.

/** Tries to the chosen node that do not open before the choice is given up, as the node may be gone. */
const FAILURES_MAX = 2;
/** The code of a connection that is given up while its members are meant to stay. */
const GIVEN_UP = 4000;

export class Way {
  /** The address that was tried last. */
  tried = "";
  /** The address that the visitor chose; `null` for none. */
  chosen = null;
  /** It is on its way to the chosen node. */
  moving = false;
  /** For `connect({ environment })`. */
  environment = { webSocket: (url, protocols) => this.#open(url, protocols) };
  #failures = 0;
  #sockets = new Set();

  /** Leads the next connection to `url` and ends the one there is. */
  choose(url) {
    this.chosen = url;
    this.moving = true;
    this.#failures = 0;
    for (const socket of this.#sockets) socket.close(GIVEN_UP, "moved");
  }

  #open(url, protocols) {
    const to = this.chosen ?? url;
    this.tried = to;
    const socket = new WebSocket(to, protocols);
    this.#sockets.add(socket);
    let opened = false;
    socket.addEventListener("open", () => {
      opened = true;
      this.moving = false;
      this.#failures = 0;
    });
    socket.addEventListener("close", () => {
      this.#sockets.delete(socket);
      if (opened || to !== this.chosen) return;
      this.#failures += 1;
      if (this.#failures < FAILURES_MAX) return;
      this.chosen = null;
      this.moving = false;
    });
    return socket;
  }
}
