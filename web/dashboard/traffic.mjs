// How busy a link is: what its counters grew by between two answers of the same node.

/** The view with `sent_rate` and `received_rate`, in bytes per second, at each link of its own. */
export function withRates(view, before, elapsed_ms) {
  const same = before && elapsed_ms > 0 && bootOf(before) === bootOf(view);
  const last = new Map(same ? before.links.filter(({ from }) => from === view.node).map((link) => [link.to, link]) : []);
  const links = view.links.map((link) => {
    const old = link.from === view.node ? last.get(link.to) : undefined;
    return {
      ...link,
      sent_rate: growth(old?.sent_bytes, link.sent_bytes, elapsed_ms),
      received_rate: growth(old?.received_bytes, link.received_bytes, elapsed_ms),
    };
  });
  return { ...view, links };
}

const bootOf = (view) => view.nodes.find(({ node }) => node === view.node)?.boot;

/** A counter that went back belongs to a new connection: nothing is known of that moment. */
function growth(before, after, elapsed_ms) {
  if (typeof before !== "number" || typeof after !== "number" || after < before) return null;
  return (1000 * (after - before)) / elapsed_ms;
}
