// The nodes of the cluster: what `/v1/nodes` says, and the menu of them.

import { $, make, setText } from "./make.mjs";

const ANSWER_MS = 3000;
const NODES_SHOWN_MAX = 64;

/** `[{node, region, url, rtt_ms}]`, nearest first; none where nobody answers. `of`: the address of a node's /v1. */
export async function listNodes(of = new URL("v1", location.href).href) {
  try {
    const response = await fetch(`${http(of)}/nodes`, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    const { nodes } = await response.json();
    return nodes.filter(({ node, url }) => typeof node === "string" && typeof url === "string" && URL.canParse(url));
  } catch {
    return [];
  }
}

/** The addresses of those nodes that this browser reaches. */
export async function reachable(nodes) {
  const asked = nodes.slice(0, NODES_SHOWN_MAX).map(async ({ url }) => ((await listNodes(url)).length > 0 ? url : null));
  return (await Promise.all(asked)).filter((url) => url !== null);
}

function http(url) {
  const address = new URL(url);
  address.protocol = /^(wss|https):$/.test(address.protocol) ? "https:" : "http:";
  address.search = address.hash = "";
  return address.href.replace(/\/$/, "");
}

/**
 * The menu. `current()` is `{node, region, moves}`: where the page is, and whether it can move as the same
 * member; `choose(near)` is called with what the visitor picks.
 */
export function nodesMenu({ room, current, choose }) {
  const menu = $("nodes");
  async function show() {
    // From the node that the page came from; where that one is gone, the old list has to do.
    const nodes = (await listNodes()).slice(0, NODES_SHOWN_MAX);
    if (nodes.length > 0) draw(nodes);
  }

  function draw(nodes) {
    const { node: here, moves } = current();
    nodes.sort((a, b) => a.node.localeCompare(b.node, undefined, { numeric: true }));
    $("nodes-list").replaceChildren(...nodes.map((near) => {
      const name = make("bdi", "name one-line", near.node);
      const region = make("bdi", "region one-line", near.region);
      const mine = near.node === here;
      const about = make("span", "note", mine ? "you are here" : Number.isFinite(near.rtt_ms) ? `${round(near.rtt_ms)} ms away` : "");
      const entry = make(moves ? "button" : "a", "entry", name, region, about);
      entry.dataset.node = near.node;
      if (mine) entry.setAttribute("aria-current", "true");
      if (moves) {
        entry.type = "button";
        entry.disabled = mine;
        entry.addEventListener("click", () => {
          menu.hidePopover();
          choose(near);
        });
      } else {
        entry.href = `${new URL(http(near.url)).origin}/?room=${encodeURIComponent(room)}`;
      }
      return make("li", "", entry);
    }));
    setText($("nodes-hint"), moves
      ? "You stay the same member on any of them, and nobody sees you leave."
      : "Over SockJS the page cannot move by itself: these open the room on the node's own page.");
  }

  setText($("nodes-hint"), "No node of this cluster says where browsers reach it (its url), so there is nowhere to go.");
  menu.addEventListener("toggle", ({ newState }) => newState === "open" && show());
  return { show };
}

function round(ms) {
  return ms < 10 ? Math.round(ms * 10) / 10 : Math.round(ms);
}
