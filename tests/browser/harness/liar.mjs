// Proxies that lie: they look as if they passed things on, and do something else.

import { Balancer, plain, whole } from "./balancer.mjs";

/**
 * In front of nodes. `lies` say what it does:
 *
 * - `strips`: it does not know of upgrades: what asks for one arrives as an ordinary request;
 * - `cuts`: WebSockets open, and break off between so many and so many milliseconds later;
 * - `swallows`: WebSockets open, and no byte comes through;
 * - `buffers`: an answer is kept until it is whole;
 * - `idle_ms`: a connection on which nothing came for that long breaks off.
 */
export class Liar extends Balancer {
  static async open(t, ports, lies) {
    const liar = await super.open(t, ports, lies);
    if (lies.idle_ms) liar.server.setTimeout(lies.idle_ms);
    return liar;
  }

  get passesUpgrades() {
    return !this.lies.strips;
  }

  answer(request, answer, response) {
    if (!this.lies.buffers) return super.answer(request, answer, response);
    whole(answer, (body) => {
      response.writeHead(answer.statusCode, { ...plain(answer.headers), "content-length": body.length });
      response.end(body);
    });
  }

  tunneled(near, far) {
    const { cuts, swallows, idle_ms } = this.lies;
    if (idle_ms) near.setTimeout(idle_ms, () => near.destroy());
    if (!cuts && !swallows) return super.tunneled(near, far);
    // The answer's head in any case.
    far.once("data", (data) => {
      const end = data.indexOf("\r\n\r\n") + 4;
      near.write(data.subarray(0, end));
      if (swallows) return;
      const [least_ms, most_ms] = cuts;
      setTimeout(() => near.destroy(), least_ms + Math.random() * (most_ms - least_ms));
      if (most_ms === 0) return;
      near.write(data.subarray(end));
      near.pipe(far).pipe(near);
    });
    far.resume();
  }
}
