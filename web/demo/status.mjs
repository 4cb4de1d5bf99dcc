// What the connection is doing, in words, and what to do where it does not come about.

import { $, make, setText } from "./make.mjs";

const TRANSPORTS = { websocket: "WebSocket", sockjs: "SockJS" };
const ANSWER_MS = 4000;
const LATENCY_EVERY_MS = 1000;

/** Shows the state of `client` in `room`. `way.tried` is the address that was tried last. */
export function showStatus(client, room, way) {
  /** The node that was connected last. */
  let node = "";
  /** Why SockJS is in use, as it was shown and closed. */
  let closed_for = null;
  let countdown = 0;

  function show() {
    const { status } = room;
    clearInterval(countdown);
    const state = status.state === "connected" && !room.joined ? "connecting" : status.state;
    document.body.dataset.state = state;
    $("state").dataset.state = state;
    if (status.state === "reconnecting" && status.retry_ms > 0) {
      const at = performance.now() + status.retry_ms;
      const count = () => setText($("state"), `Reconnecting, try ${status.attempt} in ${Math.max(1, Math.ceil((at - performance.now()) / 1000))} s`);
      count();
      // A role=status says each text aloud, so short waits are not counted down.
      if (status.retry_ms > 3000) countdown = setInterval(count, 1000);
    } else {
      setText($("state"), words(state, status));
    }
    $("state").title = state === "reconnecting" || state === "connecting" ? `Trying ${TRANSPORTS[status.transport]} at ${way.tried || location.origin}` : "";
    $("transport").hidden = state !== "connected";
    setText($("transport"), TRANSPORTS[status.transport]);
    $("how").hidden = state !== "connected";
    if (status.state === "connected") setText($("how"), `Over ${TRANSPORTS[status.transport]} to ${status.node}${status.region ? ` in ${status.region}` : ""}`);
    if (status.state === "connected") {
      node = status.node;
      $("node").hidden = false;
      setText($("node-name"), status.node);
      setText($("node-region"), status.region);
      document.title = `cursormesh · ${status.node}`;
      if (room.joined) $("notice").hidden = true;
      showFallback(status);
    } else if (status.state === "closed" && status.reason.why !== "done") {
      explain();
    } else if (status.state === "reconnecting" && status.retry_ms > 0 && !$("notice").hidden) {
      // What is wrong may have changed.
      explain();
    }
    showLatency();
  }

  function words(state, status) {
    switch (state) {
      case "connected": return "Connected";
      case "reconnecting": return `Reconnecting, try ${status.attempt} under way`;
      case "closed": return "Not connected";
      default: return "Connecting";
    }
  }

  function showLatency() {
    const ms = room.status.state === "connected" ? room.latency() : null;
    $("latency").hidden = ms === null;
    if (ms !== null) setText($("latency"), `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`);
  }

  /** Connected, but not as it should be. */
  function showFallback({ fallback }) {
    if (fallback === null) closed_for = null;
    $("note").hidden = fallback === null || fallback === closed_for;
    if (fallback === null) return;
    const can = typeof WebSocket === "function";
    setText($("note-title"), can ? "Something blocks WebSocket" : "This browser has no WebSocket");
    setText($("note-text"), can
      ? `${fallback}: usually a proxy, a firewall or an extension on the way stops it. The page uses SockJS over HTTP instead, which costs a little more and is a little later. ${remedy()}`
      : "The page uses SockJS over HTTP instead, which costs a little more and is a little later. A current version of Firefox, Chrome, Edge or Safari has WebSocket, unless an extension or a policy switched it off.");
    $("note-retry").hidden = !can;
  }

  function remedy() {
    return location.protocol === "https:"
      ? `If you run a reverse proxy in front of the node, have it pass the Upgrade and Connection headers on for /v1.`
      : "The https:// address helps if there is one: many proxies let encrypted WebSocket pass and stop the plain kind. A reverse proxy in front of the node has to pass the Upgrade and Connection headers on for /v1.";
  }

  /** Says what is wrong, once it is found out. */
  async function explain() {
    const answers = await answersAt(new URL("healthz", location.href));
    if (room.status.state === "connected") return;
    const why = whatIsWrong(room.status, answers, node);
    if ($("notice-title").textContent !== why.title) {
      setText($("notice-title"), why.title);
      setText($("notice-text"), why.text);
      $("notice-advice").replaceChildren(...why.advice.map((line) => make("li", "", line)));
    }
    const { attempt = 0 } = room.status;
    $("notice-detail").replaceChildren("Tried ", make("code", "", way.tried || location.origin), attempt > 0 ? `, ${attempt} times` : "");
    $("retry").hidden = false;
    $("notice").hidden = false;
  }

  room.on("status", show);
  for (const name of ["ready", "recovered", "rebuilt"]) room.on(name, show);
  client.on("lost", explain);
  room.on("error", ({ code, message }) => refuse(code === "bad_room" ? "This room cannot be entered" : "The room says no", message));
  room.on("ended", ({ reason }) => refuse(reason === "kicked" ? "You were removed from this room" : "You left this room", "Load the page again to come back."));
  $("retry").addEventListener("click", () => client.reconnect());
  $("note-close").addEventListener("click", () => {
    closed_for = room.status.fallback;
    $("note").hidden = true;
  });
  // The client looks for WebSocket at once when the network changed, which is what a visitor means here.
  $("note-retry").addEventListener("click", () => dispatchEvent(new Event("online")));
  setInterval(showLatency, LATENCY_EVERY_MS);
  show();
}

/** The room is not to be had; trying again would not help. */
function refuse(title, text) {
  setText($("notice-title"), title);
  setText($("notice-text"), text);
  const home = make("a", "", "Go to the lobby");
  home.href = "./";
  $("notice-advice").replaceChildren(make("li", "", home));
  $("notice-detail").replaceChildren();
  $("retry").hidden = true;
  $("notice").hidden = false;
}

async function answersAt(url) {
  try {
    await fetch(url, { cache: "no-store", signal: AbortSignal.timeout(ANSWER_MS) });
    return true;
  } catch {
    return false;
  }
}

function whatIsWrong(status, answers, node) {
  if (!navigator.onLine) {
    return {
      title: "You are offline",
      text: "This device has no network right now. The page comes back by itself when it has.",
      advice: ["Check Wi-Fi, mobile data or the cable."],
    };
  }
  if (status.state === "closed") {
    return {
      title: "The connection was closed for good",
      text: `The node closed it${status.reason.code === null ? "" : ` with code ${status.reason.code}`}${status.reason.text ? `: ${status.reason.text}` : ""}. The page does not try again by itself.`,
      advice: ["Load the page again: it may be older than the node."],
    };
  }
  if (!answers) {
    return {
      title: node ? `Node ${node} does not answer` : "The node behind this page does not answer",
      text: "It may be restarting, or the network between you and it is down, and no other node that this page knows of answers either. The page keeps trying and comes back by itself.",
      advice: ["Check that the node is running.", "Open the page from another node meanwhile: it shows the same room."],
    };
  }
  return {
    title: "Something blocks the live connection",
    text: `The page itself loads, but neither ${typeof WebSocket === "function" ? "WebSocket" : "WebSocket, which this browser does not have,"} nor SockJS over HTTP gets through. Usually a proxy, a firewall or an extension on the way does not let them pass.`,
    advice: [
      `Turn off VPN, proxy or content-blocking extensions for ${location.host}, or try another browser.`,
      "Try another network, for example a phone's hotspot.",
      location.protocol === "https:"
        ? `On a company network, ask for WebSocket (HTTP Upgrade) to be allowed to ${location.host}.`
        : "Use the https:// address if there is one: many proxies let encrypted WebSocket pass and stop the plain kind.",
      "If you run a reverse proxy in front of the node, have it pass /v1 on, with the Upgrade and Connection headers.",
    ],
  };
}
