// Who is here, by node.

import { $, make, setText } from "./make.mjs";
import { nameOf } from "./person.mjs";

/** People listed by name; the rest are counted. */
const PEOPLE_SHOWN_MAX = 200;
/** However much changes, the list is drawn no more often. */
const DRAW_MS = 100;

/** Lists the members of `room`; a press on one calls `choose(member)`. */
export function showPeople(room, choose) {
  let asked = 0;
  /** Rows by member: one that is there stays the same element, so that focus stays where it is. */
  const rows = new Map();

  function soon() {
    asked ||= setTimeout(() => {
      asked = 0;
      draw();
    }, DRAW_MS);
  }

  function draw() {
    const { me, others } = room;
    const mine = me.member && { ...me.member, user: { ...me.member.user, ...me.user } };
    const shown = [...(mine ? [mine] : []), ...others].slice(0, PEOPLE_SHOWN_MAX);
    const here = room.status.state === "connected" ? room.status.node : mine?.node ?? "";
    tellCount(room.count, others.length, mine !== null);

    const nodes = new Map();
    for (const member of shown) {
      if (!nodes.has(member.node)) nodes.set(member.node, []);
      nodes.get(member.node).push(member);
    }
    const names = [...nodes.keys()].sort((a, b) => (b === here) - (a === here) || a.localeCompare(b, undefined, { numeric: true }));
    const focused = document.activeElement;
    $("list").replaceChildren(...names.map((node) => section(node, node === here, nodes.get(node))));
    if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
    const ids = new Set(shown.map(({ id }) => id));
    for (const id of rows.keys()) if (!ids.has(id)) rows.delete(id);
    const rest = Math.max(0, room.count - shown.length);
    $("more").hidden = rest === 0 || !mine;
    setText($("more"), `and ${rest} more`);
  }

  function tellCount(count, others, joined) {
    const alone = joined && others === 0 && count <= 1;
    setText($("count"), others > 0 ? `${count} here` : alone ? "Only you here" : "You");
    const finger = matchMedia("(pointer: coarse)").matches;
    setText($("headline"), alone ? "You are the first one here" : finger ? "Touch and drag" : "Move your pointer");
    setText($("subline"), alone
      ? "Open this page in a second window, or from another node, and move in both. Or let some bots in."
      : "Everyone in this room sees it, whichever node they came in through.");
    $("alone").hidden = !alone;
    if (others === 0) document.body.classList.remove("met");
  }

  function section(node, here, members) {
    const title = make("h2", "", make("bdi", "chip one-line", node), here ? "serves this page" : "");
    const list = make("ul", "", ...members.map(row));
    const made = make("section", "node", title, list);
    made.dataset.node = node;
    return made;
  }

  function row(member) {
    const mine = member.id === room.me.member?.id;
    let made = rows.get(member.id);
    if (!made) {
      const name = make("bdi", "name one-line");
      const person = make(mine ? "span" : "button", "person", make("span", "dot"), name, make("span", "note"));
      if (!mine) {
        person.type = "button";
        person.title = "Follow";
        person.addEventListener("click", () => {
          const now = room.others.find(({ id }) => id === member.id);
          if (now) choose(now);
        });
      }
      made = make("li", "", person);
      made.dataset.member = member.id;
      rows.set(member.id, made);
    }
    const person = made.firstElementChild;
    const [dot, name, note] = person.children;
    dot.style.setProperty("--hue", String(member.user.color));
    setText(name, nameOf(member));
    setText(note, mine ? "you" : member.away ? "reconnecting" : member.state?.bot === true ? "bot" : "");
    person.classList.toggle("away", member.away);
    return made;
  }

  for (const name of ["others", "ready", "recovered", "rebuilt", "status"]) room.on(name, soon);
  draw();
  return { soon };
}
