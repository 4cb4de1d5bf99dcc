// What one node tells of the mesh (a view), and what several views are together (the mesh). Nothing
// here knows of pages or requests.
//
// The mesh: {home, answering: [name], cluster, version, dev, nodes: [node], links: [link],
// detours: [{from, to, by}], rooms: {count, members, listed: [{room, count}]}}.

import { tidy } from "./words.mjs";

const NODES_MAX = 200;
const LINKS_MAX = 2 * NODES_MAX * NODES_MAX;
const ROOMS_MAX = 100;
const ROOM_LENGTH_MAX = 200;
const REASON_LENGTH_MAX = 200;
const STATES = ["alive", "suspect", "down"];

const natural = new Intl.Collator("en", { numeric: true });

/** The order in which nodes are named everywhere. */
export const byName = (a, b) => natural.compare(a, b) || (a < b ? -1 : a > b ? 1 : 0);

/** The name of the link between two nodes, the same from both ends. */
export const linkKey = (a, b) => (byName(a, b) <= 0 ? `${a}|${b}` : `${b}|${a}`);

// ---- one view ---------------------------------------------------------------------------------

const array = (value, length_max) => (Array.isArray(value) ? value.slice(0, length_max) : []);
const object = (value) => (value !== null && typeof value === "object" ? value : {});
const figure = (value) => (typeof value === "number" && Number.isFinite(value) && value >= 0 ? value : null);
const whole = (value) => Math.floor(figure(value) ?? 0);

/** An answer of `/api/mesh` as a view, without what does not fit; null if it is none. */
export function readView(answer) {
  const told = object(answer);
  const node = tidy(told.node);
  if (!node) return null;
  const rooms = object(told.rooms);
  return {
    node,
    cluster: tidy(told.cluster),
    version: tidy(told.version),
    dev: told.dev === true,
    nodes: unique(array(told.nodes, NODES_MAX).map(readNode).filter((entry) => entry.node), (entry) => entry.node),
    links: array(told.links, LINKS_MAX).map(readLink).filter(({ from, to }) => from && to && from !== to),
    rooms: {
      count: whole(rooms.count),
      members: whole(rooms.members),
      listed: unique(array(rooms.listed, ROOMS_MAX).map(readRoom).filter(({ room }) => room), ({ room }) => room),
    },
    cuts: array(told.cuts, NODES_MAX).map((name) => tidy(name)).filter(Boolean),
  };
}

function readNode(value) {
  const told = object(value);
  return {
    node: tidy(told.node),
    region: tidy(told.region),
    state: STATES.includes(told.state) ? told.state : "suspect",
    visible: told.visible !== false,
    hidden_because: tidy(told.hidden_because, REASON_LENGTH_MAX),
    relay: tidy(told.relay) || null,
    members: whole(told.members),
    rooms: whole(told.rooms),
    url: typeof told.url === "string" && told.url.length < 2000 ? told.url : null,
    evidence_age_ms: figure(told.evidence_age_ms),
    boot: tidy(told.boot),
  };
}

function readLink(value) {
  const told = object(value);
  const loss = figure(told.loss);
  return {
    from: tidy(told.from),
    to: tidy(told.to),
    rtt_ms: figure(told.rtt_ms),
    loss: loss === null ? null : Math.min(loss, 1),
    sent_bytes: figure(told.sent_bytes),
    received_bytes: figure(told.received_bytes),
  };
}

function readRoom(value) {
  const told = object(value);
  const room = typeof told.room === "string" ? told.room.slice(0, ROOM_LENGTH_MAX) : "";
  return { room, count: whole(told.count) };
}

function unique(entries, key) {
  return [...new Map(entries.map((entry) => [key(entry), entry])).values()];
}

// ---- several views ----------------------------------------------------------------------------

/**
 * What the views say together. `home` is the node whose opinion counts where opinions differ: who is
 * hidden, who is in which room. Null without any view.
 */
export function merge(views, home) {
  const answers = new Map(views.map((view) => [view.node, view]));
  const first = answers.get(home) ?? views[0];
  if (!first) return null;
  const ordered = [first, ...views.filter((view) => view !== first)];
  const names = [...new Set(ordered.flatMap((view) => view.nodes.map(({ node }) => node)))].slice(0, NODES_MAX).sort(byName);
  const nodes = names.map((name) => mergeNode(name, ordered, answers));
  const detours = ordered.flatMap(detoursOf);
  return {
    home: first.node,
    answering: ordered.map(({ node }) => node),
    cluster: first.cluster,
    version: first.version,
    dev: first.dev,
    nodes,
    links: mergeLinks(nodes, ordered, answers, detours),
    detours,
    rooms: first.rooms,
  };
}

const entryOf = (view, name) => view.nodes.find(({ node }) => node === name);

function mergeNode(name, views, answers) {
  const opinions = views.filter(({ node }) => node !== name).map((view) => ({ by: view.node, entry: entryOf(view, name) }));
  const told = opinions.filter(({ entry }) => entry);
  const own = answers.get(name);
  const entry = (own && entryOf(own, name)) ?? told[0].entry;
  // Whoever answers is alive, and otherwise the best that anybody knows is nearest to the truth.
  const state = own ? "alive" : STATES.find((state) => told.some(({ entry }) => entry.state === state)) ?? entry.state;
  const hiding = opinions.filter(({ entry }) => !entry?.visible);
  const home = views[0].node;
  return {
    node: name,
    region: entry.region,
    state,
    home: name === home,
    answers: Boolean(own),
    hidden: state !== "down" && hiding.some(({ by }) => by === home),
    hidden_from: hiding.map(({ by }) => by),
    hidden_because: hiding.map(({ by, entry }) => (entry ? entry.hidden_because : `${by} does not list it`)).find(Boolean) ?? "",
    doubted_by: told.filter(({ entry }) => entry.state !== "alive").map(({ by }) => by),
    members: entry.members,
    rooms: entry.rooms,
    url: entry.url ?? told.map(({ entry }) => entry.url).find(Boolean) ?? null,
    evidence_age_ms: told[0]?.entry.evidence_age_ms ?? null,
    boot: entry.boot,
  };
}

function detoursOf(view) {
  return view.nodes
    .filter(({ node, relay, state }) => relay && node !== view.node && relay !== node && state !== "down")
    .map(({ node, relay }) => ({ from: view.node, to: node, by: relay }));
}

function mergeLinks(nodes, views, answers, detours) {
  const measured = new Map();
  const told = new Map();
  const talkative = new Set();
  for (const view of views) {
    for (const link of view.links) {
      if (link.from === view.node) measured.set(`${link.from}|${link.to}`, link);
      // What others repeat of somebody who can be asked is older than the answer.
      else if (!answers.has(link.from)) {
        talkative.add(link.from);
        told.set(linkKey(link.from, link.to), link);
      }
    }
  }
  const around = new Map();
  for (const detour of detours) {
    const key = linkKey(detour.from, detour.to);
    around.set(key, [...(around.get(key) ?? []), detour]);
  }
  const present = nodes.filter(({ state }) => state !== "down").map(({ node }) => node);
  return present.flatMap((a, index) => present.slice(index + 1).map((b) => {
    // The names are in order already.
    const key = `${a}|${b}`;
    const [near, far] = [measured.get(`${a}|${b}`) ?? null, measured.get(`${b}|${a}`) ?? null];
    const asked = answers.has(a) || answers.has(b);
    const cut = answers.get(a)?.cuts.includes(b) || answers.get(b)?.cuts.includes(a);
    const hearsay = asked ? null : told.get(key) ?? null;
    const known = asked || talkative.has(a) || talkative.has(b);
    const up = Boolean(near || far || hearsay);
    return {
      key, a, b,
      state: cut ? "cut" : up ? "up" : known ? "down" : "unknown",
      rtt_ms: near?.rtt_ms ?? far?.rtt_ms ?? hearsay?.rtt_ms ?? null,
      // Each end knows the loss of what it sent itself.
      loss_forward: near?.loss ?? null,
      loss_back: far?.loss ?? null,
      rate_forward: near?.sent_rate ?? far?.received_rate ?? null,
      rate_back: near?.received_rate ?? far?.sent_rate ?? null,
      measured_by: [near && a, far && b].filter(Boolean),
      detours: around.get(key) ?? [],
    };
  }));
}

/** How many there are of everything. */
export function totals(mesh) {
  const here = mesh.nodes.filter(({ state }) => state !== "down");
  return {
    nodes: here.length,
    alive: here.filter(({ state }) => state === "alive").length,
    hidden: here.filter(({ hidden }) => hidden).length,
    links: mesh.links.length,
    up: mesh.links.filter(({ state }) => state === "up").length,
    detours: new Set(mesh.detours.map(({ from, to }) => linkKey(from, to))).size,
    members: mesh.rooms.members,
    rooms: mesh.rooms.count,
  };
}
