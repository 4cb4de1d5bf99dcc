// The one node or link that somebody chose: its figures and, with --dev, what can be done to it.

import { plan } from "./actions.mjs";
import { byId, facts, html, show, write } from "./elements.mjs";
import { bothWays, linkName, linkState, list, milliseconds, nodeState, percent, rate } from "./words.mjs";

export class Chosen {
  #act;
  #facts;
  #buttons = {};
  /** The node that somebody was asked about once more: whether it may be stopped. */
  #doubted = null;
  #part = null;
  #subject = null;

  /** `act` gets a wish for `plan`. */
  constructor(act) {
    this.#act = act;
    const terms = html("dl", { class: "facts" });
    const row = html("div", { class: "buttons" });
    byId("chosen").append(terms, row);
    this.#facts = facts(terms);
    this.#button(row, "cut", "Cut this link", "danger", () => this.#wish("cut"));
    this.#button(row, "heal", "Heal this link", "", () => this.#wish("heal"));
    this.#button(row, "stop", "Stop this node", "danger", () => this.#ask(true));
    this.#button(row, "sure", "", "danger", () => { this.#wish("stop"); this.#ask(false); });
    this.#button(row, "never-mind", "Leave it running", "quiet", () => this.#ask(false));
  }

  draw(mesh, views, part) {
    if (part !== this.#part) this.#doubted = null;
    this.#part = part;
    const node = mesh.nodes.find(({ node }) => `node:${node}` === part);
    const link = mesh.links.find(({ key }) => `link:${key}` === part);
    this.#subject = node ?? link ?? null;
    write(byId("chosen-title"), node ? `Node ${node.node}` : link ? `Link ${linkName(link.a, link.b)}` : part ? "No longer there" : "Nothing chosen");
    this.#facts.draw(node ? nodeFacts(node) : link ? linkFacts(link) : [], ([term]) => term);
    write(byId("dev-hint"), hint(mesh, node, link, (kind) => this.#can(mesh, views, kind, node, link)));
    const asking = Boolean(node) && this.#doubted === node.node;
    const able = (kind) => this.#can(mesh, views, kind, node, link);
    show(this.#buttons.cut, able("cut") && link.state !== "cut");
    show(this.#buttons.heal, able("heal"));
    show(this.#buttons.stop, able("stop") && !asking);
    show(this.#buttons.sure, able("stop") && asking);
    show(this.#buttons["never-mind"], able("stop") && asking);
    if (node) write(this.#buttons.sure, `Yes, stop ${node.node} now`);
  }

  #can(mesh, views, kind, node, link) {
    if (!mesh.dev || (kind === "stop" ? !node : !link)) return false;
    return plan(mesh, views, wish(kind, node ?? link)).length > 0;
  }

  #wish(kind) {
    if (this.#subject) this.#act(wish(kind, this.#subject));
  }

  #ask(doubted) {
    this.#doubted = doubted ? this.#subject?.node ?? null : null;
    for (const name of ["stop", "sure", "never-mind"]) show(this.#buttons[name], (name === "stop") !== doubted);
    write(this.#buttons.sure, `Yes, stop ${this.#subject?.node} now`);
    this.#buttons[doubted ? "never-mind" : "stop"].focus();
  }

  #button(row, name, text, look, pressed) {
    const button = html("button", { type: "button", class: look, hidden: "" }, text);
    button.addEventListener("click", pressed);
    this.#buttons[name] = button;
    row.append(button);
  }
}

const wish = (kind, { node, a, b }) => ({ kind, node, a, b });

function nodeFacts(node) {
  return [
    ["Region", node.region || "–"],
    ["State", nodeState(node)],
    ["Members", String(node.members)],
    ["Rooms", String(node.rooms)],
    ["Clients’ address", node.url ?? "not told"],
  ];
}

function linkFacts(link) {
  const state = ["State", linkState(link)];
  if (link.state !== "up") return [state];
  return [
    state,
    ["RTT", milliseconds(link.rtt_ms)],
    ["Loss", bothWays(link.loss_forward, link.loss_back, percent)],
    ["Traffic", bothWays(link.rate_forward, link.rate_back, rate)],
    ["Measured by", link.measured_by.length ? list(link.measured_by) : "others"],
  ];
}

/** What to do here, or why nothing can be done. */
function hint(mesh, node, link, can) {
  if (!mesh.dev) return "To cut links and stop nodes from here, start the nodes on loopback with “cursormesh serve --dev”.";
  if (!node && !link) return "Choose a link to cut it and watch the mesh heal, or a node to stop it.";
  if (link && !can("cut") && !can("heal")) return "Neither end answers this page, so it cannot be cut from here.";
  if (node && !can("stop") && node.state !== "down") return "It does not answer this page, so it cannot be stopped from here.";
  return "";
}
