// The same as in the picture, in tables, and the rooms.

import { Keyed, byId, html, set, show, write } from "./elements.mjs";
import { bothWays, count, linkName, linkState, milliseconds, nodeState, percent, rate, tidy } from "./words.mjs";

export class Tables {
  #nodes;
  #links;
  #rooms;
  #chosen = null;

  /** `choose` gets "node:NAME" or "link:KEY". */
  constructor(choose) {
    this.#nodes = new Keyed(byId("nodes").tBodies[0], ({ node }) => row(`node:${node}`, 6, [3, 4], choose), (...both) => this.#drawNode(...both));
    this.#links = new Keyed(byId("links").tBodies[0], ({ key }) => row(`link:${key}`, 6, [2, 3, 4], choose), (...both) => this.#drawLink(...both));
    this.#rooms = new Keyed(byId("rooms"), makeRoom, drawRoom);
  }

  draw(mesh, chosen) {
    this.#chosen = chosen;
    this.#nodes.draw(mesh.nodes.map((node) => ({ ...node, told_by: toldBy(node, mesh) })), ({ node }) => node);
    this.#links.draw(mesh.links, ({ key }) => key);
    show(byId("no-links"), mesh.links.length === 0);
    show(byId("links").parentElement, mesh.links.length > 0);
    this.#rooms.draw(mesh.rooms.listed, ({ room }) => room);
    const unlisted = mesh.rooms.count - mesh.rooms.listed.length;
    write(byId("rooms-note"), mesh.rooms.count ? `and ${count(Math.max(unlisted, 0), "smaller room")}` : "No room has a member.");
    show(byId("rooms-note"), mesh.rooms.count === 0 || unlisted > 0);
  }

  #drawNode(element, node) {
    const [name, region, state, members, rooms, told] = element.cells;
    set(element, { "data-node": node.node, "data-state": node.state, "data-hidden": node.hidden || null });
    this.#drawName(name, node.node, `node:${node.node}`);
    write(region, node.region || "–");
    write(state, nodeState(node));
    write(members, String(node.members));
    write(rooms, String(node.rooms));
    write(told, node.told_by);
  }

  #drawLink(element, link) {
    const [name, state, rtt, loss, traffic, told] = element.cells;
    set(element, { "data-link": link.key, "data-state": link.state, "data-detour": link.detours[0]?.by ?? null });
    this.#drawName(name, linkName(link.a, link.b), `link:${link.key}`);
    write(state, linkState(link));
    write(rtt, milliseconds(link.rtt_ms));
    write(loss, bothWays(link.loss_forward, link.loss_back, percent));
    write(traffic, bothWays(link.rate_forward, link.rate_back, rate));
    write(told, link.measured_by.join(", ") || (link.state === "up" ? "others" : "–"));
  }

  #drawName(cell, name, part) {
    write(cell.firstElementChild, name);
    set(cell.firstElementChild, { "aria-pressed": String(this.#chosen === part) });
  }
}

/** A row whose first cell is a button that chooses what it is about. */
function row(part, cells, numbers, choose) {
  const button = html("button", { type: "button", class: "name" });
  button.addEventListener("click", () => choose(part));
  const rest = Array.from({ length: cells - 1 }, (_, index) => html("td", numbers.includes(index + 1) ? { class: "number" } : {}));
  return html("tr", {}, html("th", { scope: "row" }, button), ...rest);
}

function toldBy(node, mesh) {
  if (node.answers) return "itself";
  return node.state === "down" || node.evidence_age_ms === null ? mesh.home : `${mesh.home}, heard ${milliseconds(node.evidence_age_ms)} ago`;
}

function makeRoom({ room }) {
  const link = html("a", { href: `./?${new URLSearchParams({ room })}` }, html("bdi", {}, tidy(room, 80) || "(unnamed)"));
  return html("li", {}, link, html("span"));
}

function drawRoom(element, { count: members }) {
  write(element.lastElementChild, count(members, "member"));
}
