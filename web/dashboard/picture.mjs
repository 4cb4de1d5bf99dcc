// The mesh as a picture. Everything in it is also in the tables; it is one stop for the Tab key, in
// which the arrow keys go from one part to the next.

import { Keyed, set, svg, write } from "./elements.mjs";
import { arrange, detourCurve } from "./layout.mjs";
import { bothWays, count, linkName, linkState, milliseconds, nodeNote, nodeState, percent, rate } from "./words.mjs";

/** Up to this many nodes every link carries its RTT. */
const LABELLED_NODES_MAX = 4;
/** Up to this many nodes traffic is shown as it moves, and detours are named in the picture. */
const BUSY_NODES_MAX = 12;
/** Only the busiest links move: each one that does is painted anew all the time. */
const MOVING_LINKS_MAX = 15;
/** A picture up to this many pixels wide has no room for words beside the ring or on long curves. */
const NARROW_WIDTH_MAX = 480;
/** How fast dots move, in pixels per second, by how busy their link is; and detours. */
const PACES = [0, 16, 24, 34, 52];
const DETOUR_PACE = 15;
/** The dots and dashes of CSS repeat, so that nothing jumps when the time begins anew. */
const REPEAT_S = 52 * 15;
/** From this radius on there is room for a number in a node. */
const NUMBERED_RADIUS_MIN = 13;

export class Picture {
  #root;
  #layers = {};
  #bands;
  #regions;
  #links;
  #labels;
  #detours;
  #nodes;
  #names;
  #choose;
  #current = null;
  #mesh = null;
  #at = new Map();
  #size = { width: 0, height: 0 };
  #radius = 0;
  #moving = new Set();

  /** Draws into `parent`; `choose` gets "node:NAME" or "link:KEY". */
  constructor(parent, choose) {
    this.#choose = choose;
    this.#root = svg("svg", { role: "toolbar", "aria-label": "Nodes and links of the mesh; arrow keys go from one to the next" });
    for (const name of ["bands", "links", "detours", "labels", "regions", "nodes", "names", "tip"]) {
      this.#layers[name] = svg("g", { class: name });
      this.#root.append(this.#layers[name]);
    }
    for (const name of ["bands", "regions", "detours", "labels", "names", "tip"]) this.#layers[name].setAttribute("aria-hidden", "true");
    parent.append(this.#root);
    this.#bands = new Keyed(this.#layers.bands, () => svg("path"), (...both) => this.#drawBand(...both));
    this.#regions = new Keyed(this.#layers.regions, () => svg("text"), (...both) => this.#drawRegion(...both));
    this.#links = new Keyed(this.#layers.links, makeLink, (...both) => this.#drawLink(...both));
    this.#labels = new Keyed(this.#layers.labels, () => svg("text"), (...both) => this.#drawLabel(...both));
    this.#detours = new Keyed(this.#layers.detours, () => svg("g", { class: "detour" }, svg("path"), svg("text")), (...both) => this.#drawDetour(...both));
    this.#nodes = new Keyed(this.#layers.nodes, makeNode, (...both) => this.#drawNode(...both));
    this.#names = new Keyed(this.#layers.names, makeName, (...both) => this.#drawName(...both));
    this.#listen(parent);
  }

  draw(mesh, places, size, chosen) {
    this.#mesh = mesh;
    this.#size = size;
    const { radius, center, at, regions } = arrange(places, size);
    this.#radius = radius;
    this.#at = at;
    this.center = center;
    set(this.#root, {
      viewBox: `0 0 ${size.width} ${size.height}`, width: size.width, height: size.height,
      class: mesh.nodes.length > BUSY_NODES_MAX ? "many" : "few",
    });
    const tab = this.#parts().includes(this.#current) ? this.#current : this.#parts()[0];
    this.#current = tab;
    this.chosen = chosen;
    this.#moving = movingLinks(mesh);
    this.#bands.draw(regions.map((region, index) => ({ ...region, index })), ({ region }) => region);
    this.#regions.draw(regions, ({ region }) => region);
    this.#links.draw(mesh.links.filter(({ state }) => state !== "unknown"), ({ key }) => key);
    this.#detours.draw(detourPairs(mesh), ({ key }) => key);
    this.#labels.draw(mesh.links.filter((link) => this.#label(link)), ({ key }) => key);
    this.#nodes.draw(mesh.nodes, ({ node }) => node);
    this.#names.draw(mesh.nodes, ({ node }) => node);
    this.#drawTip();
  }

  /** Moves what moves to where it is at that time. */
  move(seconds) {
    const time = seconds % REPEAT_S;
    for (const dots of this.#layers.links.querySelectorAll(".dots:not(.still)")) {
      const backwards = dots.classList.contains("backwards");
      dots.style.strokeDashoffset = ((backwards ? 1 : -1) * time * PACES[dots.dataset.pace]).toFixed(1);
    }
    for (const curve of this.#layers.detours.querySelectorAll(".one-way")) curve.style.strokeDashoffset = (-time * DETOUR_PACE).toFixed(1);
  }

  // ---- parts ----------------------------------------------------------------------------------

  #drawBand(element, { path, index }) {
    set(element, { "data-hue": index % 6, d: path, "stroke-width": 2 * this.#radius + 18 });
  }

  #drawRegion(element, { region, from, to }) {
    set(element, this.#regionLabel((from + to) / 2));
    write(element, region);
  }

  get #small() {
    return this.#radius < NUMBERED_RADIUS_MIN;
  }

  get #narrow() {
    return this.#size.width < NARROW_WIDTH_MAX;
  }

  /** Beside the band: outside, or inside where there is no room or the names of small nodes stand. */
  #regionLabel(angle) {
    const on = this.#onEllipse(angle);
    const inside = this.#small || this.#narrow;
    const away = this.#radius + 18;
    const side = Math.cos(angle);
    const out = inside ? { x: -this.#radius - 26, y: -this.#radius - 20 } : { x: away, y: away };
    const [x, y] = [on.x + out.x * side, on.y + out.y * Math.sin(angle) + 4];
    return { x, y, "data-anchor": inside || Math.abs(side) < 0.35 ? null : side > 0 ? "start" : "end" };
  }

  #onEllipse(angle) {
    const some = [...this.#at.values()];
    const wide = some.find(({ angle }) => Math.abs(Math.cos(angle)) > 0.1);
    const high = some.find(({ angle }) => Math.abs(Math.sin(angle)) > 0.1);
    const reach_x = wide ? (wide.x - this.center.x) / Math.cos(wide.angle) : 0;
    const reach_y = high ? (high.y - this.center.y) / Math.sin(high.angle) : 0;
    return { x: this.center.x + reach_x * Math.cos(angle), y: this.center.y + reach_y * Math.sin(angle) };
  }

  #drawLink(element, link) {
    const [a, b] = [this.#at.get(link.a), this.#at.get(link.b)];
    const d = `M${a.x.toFixed(1)} ${a.y.toFixed(1)}L${b.x.toFixed(1)} ${b.y.toFixed(1)}`;
    const id = `link:${link.key}`;
    set(element, {
      "data-part": id, "data-state": link.state, "aria-pressed": String(this.chosen === id),
      "aria-label": `Link ${linkName(link.a, link.b)}: ${linkWords(link)}`, tabindex: this.#current === id ? 0 : -1,
    });
    const [hit, line, dots] = element.children;
    set(hit, { d });
    const busy = busyness(link);
    set(line, { d, "stroke-width": link.state === "up" ? thickness(busy, this.#mesh.nodes.length) : null });
    const backwards = (link.rate_back ?? 0) > (link.rate_forward ?? 0);
    const step = this.#moving.has(link.key) ? pace(busy) : 0;
    set(dots, { d, "data-pace": step, class: `dots${step ? "" : " still"}${backwards ? " backwards" : ""}` });
  }

  #label(link) {
    const few = this.#mesh.nodes.length <= LABELLED_NODES_MAX;
    if (link.state === "up") return few && link.rtt_ms !== null ? milliseconds(link.rtt_ms) : "";
    return this.#mesh.nodes.length <= BUSY_NODES_MAX && link.state !== "unknown" ? link.state : "";
  }

  #drawLabel(element, link) {
    const [a, b] = [this.#at.get(link.a), this.#at.get(link.b)];
    // Not in the middle, where the diagonals of a ring all meet.
    const share = this.#mesh.nodes.length <= LABELLED_NODES_MAX ? 0.5 : 0.4;
    set(element, { class: `label ${link.state}`, x: a.x + (b.x - a.x) * share, y: a.y + (b.y - a.y) * share + 4 });
    write(element, this.#label(link));
  }

  #drawDetour(element, { from, to, by, mutual }) {
    const { path, label } = detourCurve(this.#at.get(from), this.#at.get(by), this.#at.get(to));
    const [curve, text] = element.children;
    set(element, { "data-from": from, "data-to": to, "data-by": by });
    set(curve, { d: path, class: mutual ? "mutual" : "one-way" });
    set(text, { x: label.x, y: label.y });
    write(text, this.#mesh.nodes.length <= (this.#narrow ? LABELLED_NODES_MAX : BUSY_NODES_MAX) ? `${from} ${mutual ? "↔" : "→"} ${to} by way of ${by}` : "");
    this.#keepInside(text, label.x);
  }

  #drawNode(element, node) {
    const id = `node:${node.node}`;
    set(element, {
      "data-part": id, "data-home": node.home || null, "aria-pressed": String(this.chosen === id),
      tabindex: this.#current === id ? 0 : -1, "aria-label": `Node ${node.node}: ${nodeWords(node)}`, ...this.#nodeLook(node),
    });
    const [ring, body] = element.children;
    set(ring, { r: this.#radius + 5 });
    set(body, { r: this.#radius });
  }

  #nodeLook(node) {
    const { x, y } = this.#at.get(node.node);
    return { "data-state": node.state, "data-hidden": node.hidden || null, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
  }

  #drawName(element, node) {
    set(element, this.#nodeLook(node));
    const at = this.#at.get(node.node);
    const radius = this.#radius;
    const [number, name, words] = element.children;
    const note = nodeNote(node);
    write(number, !this.#small && node.state !== "down" ? String(node.members) : "");
    write(name, node.node);
    write(words, this.#small ? "" : note);
    if (this.#small) {
      const side = Math.cos(at.angle);
      const anchor = side > 0.25 ? "start" : side < -0.25 ? "end" : null;
      set(name, { x: (radius + 6) * side, y: (radius + 11) * Math.sin(at.angle) + 4, "data-anchor": anchor });
      return;
    }
    set(name, { "data-anchor": null });
    const above = Math.sin(at.angle) < -0.1;
    const first = above ? -radius - (note ? 27 : 12) : radius + 20;
    set(name, { y: first });
    set(words, { y: first + 15 });
    this.#keepInside(name, at.x, -at.x);
    this.#keepInside(words, at.x, -at.x);
  }

  /** Moves a centered text so that it does not leave the picture. */
  #keepInside(text, center, shift = 0) {
    const half = 3.8 * text.textContent.length + 4;
    const x = Math.min(Math.max(center, half), Math.max(this.#size.width - half, half));
    set(text, { x: (x + shift).toFixed(1) });
  }

  // ---- what the pointer or the keyboard is on -------------------------------------------------

  #parts() {
    if (!this.#mesh) return [];
    return [
      ...[...this.#at.keys()].filter((name) => this.#mesh.nodes.some(({ node }) => node === name)).map((name) => `node:${name}`),
      ...this.#mesh.links.filter(({ state }) => state !== "unknown").map(({ key }) => `link:${key}`),
    ];
  }

  #element(part) {
    return part.startsWith("node:") ? this.#nodes.get(part.slice(5)) : this.#links.get(part.slice(5));
  }

  /** Listens on what holds the picture: an `<svg>` that listens for focus may become a stop of its own. */
  #listen(parent) {
    const partOf = (event) => event.target.closest?.("[data-part]")?.getAttribute("data-part") ?? null;
    parent.addEventListener("click", (event) => { const part = partOf(event); if (part) this.#choose(part); });
    parent.addEventListener("pointerover", (event) => this.#point(partOf(event)));
    parent.addEventListener("pointerleave", () => this.#point(null));
    parent.addEventListener("focusin", (event) => { this.#go(partOf(event), false); this.#point(partOf(event)); });
    parent.addEventListener("focusout", () => this.#point(null));
    parent.addEventListener("keydown", (event) => this.#key(event));
  }

  #key(event) {
    const parts = this.#parts();
    const index = parts.indexOf(this.#current);
    const to = { ArrowRight: index + 1, ArrowDown: index + 1, ArrowLeft: index - 1, ArrowUp: index - 1, Home: 0, End: -1 }[event.key];
    if (to !== undefined) this.#go(parts.at(to % parts.length), true);
    else if (event.key === "Enter" || event.key === " ") this.#choose(this.#current);
    else if (event.key === "Escape") this.#point(null);
    else return;
    event.preventDefault();
  }

  #go(part, focus) {
    if (!part || !this.#element(part)) return;
    const last = this.#current && this.#element(this.#current);
    if (last) set(last, { tabindex: -1 });
    this.#current = part;
    set(this.#element(part), { tabindex: 0 });
    if (focus) this.#element(part).focus();
  }

  #point(part) {
    this.pointed = part;
    this.#drawTip();
  }

  #drawTip() {
    const tip = this.#layers.tip;
    const [at, lines] = this.#tipText();
    if (!at) {
      tip.replaceChildren();
      return;
    }
    if (!tip.firstChild) tip.append(svg("rect", { rx: 7 }), svg("text"), svg("text"));
    const [box, ...texts] = tip.children;
    const width = 7 * Math.max(...lines.map(({ length }) => length)) + 20;
    const x = Math.min(Math.max(at.x - width / 2, 2), Math.max(this.#size.width - width - 2, 2));
    const y = Math.min(Math.max(at.y - 56, 2), this.#size.height - 46);
    set(box, { x, y, width, height: 44 });
    for (const [index, text] of texts.entries()) {
      set(text, { x: x + 10, y: y + 18 + 17 * index });
      write(text, lines[index]);
    }
  }

  #tipText() {
    const part = this.pointed;
    const node = part?.startsWith("node:") && this.#mesh.nodes.find(({ node }) => `node:${node}` === part);
    const link = part?.startsWith("link:") && this.#mesh.links.find(({ key }) => `link:${key}` === part);
    if (node) {
      const at = this.#at.get(node.node);
      return [{ x: at.x, y: at.y - this.#radius }, [`${node.node}${node.region ? `, ${node.region}` : ""}: ${nodeState(node)}`, `${count(node.members, "member")}, ${count(node.rooms, "room")}`]];
    }
    if (link) {
      const [a, b] = [this.#at.get(link.a), this.#at.get(link.b)];
      const figures = link.state === "up"
        ? `${milliseconds(link.rtt_ms)}, loss ${bothWays(link.loss_forward, link.loss_back, percent)}, ${bothWays(link.rate_forward, link.rate_back, rate)}` : "";
      return [{ x: (a.x + b.x) / 2, y: (a.y + b.y) / 2 }, [`${linkName(link.a, link.b)}: ${linkState(link)}`, figures]];
    }
    return [null, []];
  }
}

function makeLink() {
  return svg("g", { class: "link", role: "button" }, svg("path", { class: "hit" }), svg("path", { class: "line" }), svg("path", { class: "dots" }));
}

function makeNode() {
  return svg("g", { class: "node", role: "button" }, svg("circle", { class: "ring" }), svg("circle", { class: "body" }));
}

function makeName() {
  return svg("g", { class: "texts" }, ...["members", "name", "note"].map((name) => svg("text", { class: name, y: 5 })));
}

/** Rounded, so that a reader is not told of every little change. */
function linkWords(link) {
  return link.state === "up" && link.rtt_ms !== null ? `up, about ${Math.max(1, Math.round(link.rtt_ms))} ms` : linkState(link);
}

const nodeWords = (node) => `${nodeState(node)}; ${count(node.members, "member")}`;

/** The detours, those that are each other's way back as one. */
function detourPairs(mesh) {
  const pairs = new Map();
  for (const { from, to, by } of mesh.detours) {
    if (!mesh.nodes.some(({ node }) => node === by)) continue;
    const back = pairs.get(`${to}|${from}|${by}`);
    if (back) back.mutual = true;
    else pairs.set(`${from}|${to}|${by}`, { key: `${from}|${to}|${by}`, from, to, by, mutual: false });
  }
  return [...pairs.values()];
}

const busyness = (link) => Math.max(link.rate_forward ?? 0, link.rate_back ?? 0);

function movingLinks(mesh) {
  if (mesh.nodes.length > BUSY_NODES_MAX) return new Set();
  const busy = mesh.links.filter((link) => link.state === "up" && busyness(link) > 0).sort((one, other) => busyness(other) - busyness(one));
  return new Set(busy.slice(0, MOVING_LINKS_MAX).map(({ key }) => key));
}

/** Ten times the traffic, one step more. */
function thickness(bytes_per_second, nodes) {
  const steps = Math.min(Math.log10(1 + bytes_per_second / 100), 4);
  return (nodes > BUSY_NODES_MAX ? 0.5 + 0.3 * steps : nodes > LABELLED_NODES_MAX ? 0.8 + 0.6 * steps : 1.4 + 1.1 * steps).toFixed(1);
}

const pace = (bytes_per_second) => Math.min(4, 1 + Math.floor(Math.log10(1 + bytes_per_second / 300)));
