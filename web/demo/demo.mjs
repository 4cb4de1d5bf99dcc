// The page at `/`: what the client library does, put together.

import { connect } from "../cursormesh.mjs";
import { avatars, chat, follow, idle, reactions, render, smooth } from "../cursormesh-ui.mjs";
import { Bots, BOTS_MAX } from "./bots.mjs";
import { showChat } from "./chat.mjs";
import { showEdges } from "./edges.mjs";
import { showFollowing } from "./following.mjs";
import { $, setText } from "./make.mjs";
import { listNodes, nodesMenu, reachable } from "./nodes.mjs";
import { showPeople } from "./people.mjs";
import { keep, person, tidy } from "./person.mjs";
import { showReactions } from "./reactions.mjs";
import { showStatus } from "./status.mjs";
import { Way } from "./way.mjs";

const BOTS_ADDED = 8;
/** A bot's name beside its cursor is about as wide. */
const LABEL_PX = 90;
/** How long a button says that it did what it was asked. */
const DONE_MS = 1600;
/** How long the headline stands once somebody moves among others. */
const MEETING_MS = 4000;

const query = new URLSearchParams(location.search);
const name = query.get("room") || "lobby";
const view = $("view");
const board = $("board");
const narrow = matchMedia("(max-width: 700px)");
const me = person();

const way = new Way();
const client = connect({ environment: way.environment });
const room = client.room(name, { user: me });

// ---- cursors and what goes with them ------------------------------------------------------------

// Pixels, as the tutorial's pages send them, so that both kinds of pages agree.
const overlay = render(room, board, { coordinates: "pixels" });
const cursors = smooth(room);
const pointer = watchPointer();
const following = showFollowing(room, follow(room, view), cursors, view);
avatars(room, $("faces"), { choose: (member) => following.toggle(member) });
idle(room);
showEdges(cursors, board, $("edges"));
showReactions(reactions(room, overlay), pointer);
showChat(chat(room), room, pointer);
const people = showPeople(room, (member) => following.toggle(member));

/** Where the own pointer was last on the board itself, not on what floats over it. */
function watchPointer() {
  let last = null;
  /** Who moves and sees others move needs no headline. */
  let meeting = 0;
  const note = (event) => {
    if (event.target instanceof Element && event.target.closest(".panel, button")) return;
    const { left, top } = board.getBoundingClientRect();
    last = { x: event.clientX - left, y: event.clientY - top };
    if (room.others.length > 0) meeting ||= setTimeout(() => document.body.classList.add("met"), MEETING_MS);
  };
  board.addEventListener("pointermove", note, { passive: true });
  board.addEventListener("pointerdown", note, { passive: true });
  return {
    /** In pixels of the board; without a pointer the middle of what is visible. */
    get place() {
      const { left, top } = board.getBoundingClientRect();
      const seen = last && left + last.x >= 0 && top + last.y >= 0 && left + last.x <= innerWidth && top + last.y <= innerHeight;
      return seen ? last : { x: innerWidth / 2 - left, y: innerHeight / 2 - top };
    },
  };
}

// ---- connection ---------------------------------------------------------------------------------

showStatus(client, room, way);
nodesMenu({
  room: name,
  current: () => {
    const { status } = room;
    return { node: status.state === "connected" ? status.node : "", moves: status.transport === "websocket" };
  },
  choose: ({ url }) => way.choose(url),
});
// A move is no failure: its wait is not needed.
client.on("status", (status) => {
  if (way.moving && status.state === "reconnecting" && status.attempt === 1 && status.retry_ms > 0) queueMicrotask(() => client.reconnect());
});

// ---- who one is, and where ----------------------------------------------------------------------

setText($("room"), `#${tidy(name) || "?"}`);
$("name").value = me.name;
$("color").value = String(me.color);
document.documentElement.style.setProperty("--mine", String(me.color));
$("name").addEventListener("input", () => change({ name: tidy($("name").value) || me.name }));
$("name").addEventListener("blur", () => { $("name").value = me.name; });
$("color").addEventListener("input", () => change({ color: Number($("color").value) }));
$("me").addEventListener("submit", (event) => {
  event.preventDefault();
  $("name").blur();
});

function change(what) {
  Object.assign(me, what);
  keep(me);
  room.me.setUser(what);
  document.documentElement.style.setProperty("--mine", String(me.color));
  people.soon();
}

$("tutorial").href = `tutorial?room=${encodeURIComponent(name)}`;
for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const link = new URL(location.href);
    link.search = `?room=${encodeURIComponent(name)}`;
    const before = button.textContent;
    let said = "Copied";
    try {
      await navigator.clipboard.writeText(link.href);
    } catch {
      // Pages that are not served securely may not write there.
      said = "Copy it from the address bar";
    }
    if (button.disabled) return;
    button.disabled = true;
    setText(button, said);
    setTimeout(() => {
      setText(button, before);
      button.disabled = false;
    }, DONE_MS);
  });
}

function openPeople(open) {
  $("people-toggle").setAttribute("aria-expanded", String(open));
  $("people").classList.toggle("open", open);
  $("people-body").hidden = !open;
}
$("people-toggle").addEventListener("click", () => openPeople($("people-body").hidden));
openPeople(!narrow.matches);

// ---- bots ---------------------------------------------------------------------------------------

const bots = new Bots({
  room: name,
  urls: async () => reachable(await listNodes()),
  area: () => {
    const { left, top } = board.getBoundingClientRect();
    const beside = narrow.matches ? 0 : $("people").offsetWidth + LABEL_PX;
    return { left: -left, top: 60 - top, width: innerWidth - beside, height: Math.max(100, innerHeight - (narrow.matches ? 200 : 140)) };
  },
  changed: (count) => {
    $("stop-bots").hidden = count === 0;
    setText($("stop-bots"), `Stop ${count === 1 ? "the bot" : `${count} bots`}`);
    for (const button of document.querySelectorAll(".add-bots")) button.disabled = count >= BOTS_MAX;
  },
});
for (const button of document.querySelectorAll(".add-bots")) button.addEventListener("click", () => bots.add(BOTS_ADDED));
$("stop-bots").addEventListener("click", () => bots.stop());
const asked = Number(query.get("bots"));
if (Number.isInteger(asked) && asked > 0) bots.add(Math.min(asked, BOTS_MAX));
