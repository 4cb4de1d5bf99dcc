// What happened, in sentences: the difference between what was known and a newer mesh. What cannot be
// seen for a moment, because a node does not answer, has not changed; it stays known as it was.

import { count, linkName, list } from "./words.mjs";

/** From this many links of one node that change at once, one sentence names them all. */
const LINKS_TOLD_APART_MAX = 2;

/** Nothing is known yet. */
export const nothingKnown = () => ({ nodes: null, links: new Map(), detours: new Map() });

/** What is known with this mesh, and the sentences about what is new in it. */
export function note(known, mesh) {
  const nodes = new Map(mesh.nodes.map((node) => [node.node, node]));
  if (!known.nodes) {
    const next = { nodes, links: linkStates(mesh, new Map(), nodes), detours: detourMap(mesh, new Map(), nodes) };
    return { known: next, sentences: [watching(mesh), ...remarkable(next)] };
  }
  const links = linkStates(mesh, known.links, nodes);
  const detours = detourMap(mesh, known.detours, nodes);
  const sentences = [
    ...nodeSentences(known.nodes, nodes),
    ...linkSentences(known, links, nodes),
    ...detourSentences(known.detours, detours, links, nodes),
  ];
  return { known: { nodes, links, detours }, sentences };
}

const here = (node) => node !== undefined && node.state !== "down";

// ---- at first ---------------------------------------------------------------------------------

const watching = (mesh) => `${mesh.home} tells of ${count(mesh.nodes.length, "node")}`;

/** What is out of the ordinary already when the page opens. */
function remarkable({ nodes, links, detours }) {
  return [
    ...[...nodes.values()].flatMap((node) => [
      ...(node.state === "alive" ? [] : [stateSentence(node)]),
      ...(node.hidden ? [hiddenSentence(node)] : []),
    ]),
    ...grouped([...links.values()].filter(({ state }) => state !== "up").map((link) => ({ ...link, word: LINK_WORDS[link.state] }))),
    ...detourStarts([...detours.values()]),
  ];
}

// ---- nodes ------------------------------------------------------------------------------------

const stateSentence = ({ node, state }) => (state === "suspect" ? `${node} is suspected` : `${node} is ${state}`);
const hiddenSentence = ({ node, hidden_because }) => `${node} is hidden${hidden_because ? `: ${hidden_because}` : ""}`;

function nodeSentences(before, after) {
  const sentences = [];
  for (const node of after.values()) {
    const old = before.get(node.node);
    if (!old) {
      sentences.push(`${node.node} is new${node.region ? ` in region ${node.region}` : ""}`);
      continue;
    }
    if (old.boot && node.boot && old.boot !== node.boot) sentences.push(`${node.node} has started anew`);
    else if (old.state !== node.state) sentences.push(node.state === "alive" ? `${node.node} is alive again` : stateSentence(node));
    if (node.state === "down") continue;
    if (!old.hidden && node.hidden) sentences.push(hiddenSentence(node));
    if (old.hidden && !node.hidden) sentences.push(`${node.node} is shown again`);
  }
  for (const old of before.values()) if (!after.has(old.node)) sentences.push(`${old.node} is gone`);
  return sentences;
}

// ---- links ------------------------------------------------------------------------------------

const LINK_WORDS = { up: "up again", cut: "cut on purpose", down: "down" };

/** The last known state of each link between nodes that are there: key to {a, b, state}. */
function linkStates(mesh, before, nodes) {
  const states = new Map();
  for (const { key, a, b, state } of mesh.links) {
    if (!here(nodes.get(a)) || !here(nodes.get(b))) continue;
    const old = before.get(key)?.state;
    // Whether a cut was on purpose only its ends know, and one of them may not be heard for a moment.
    const heard = mesh.answering.includes(a) && mesh.answering.includes(b);
    const last = state === "unknown" ? old : state === "down" && old === "cut" && !heard ? old : state;
    if (last) states.set(key, { a, b, state: last });
  }
  return states;
}

/** A link that comes or goes with its node is not worth a sentence of its own. */
function linkSentences(known, links, nodes) {
  const lasting = (name) => here(known.nodes.get(name)) && here(nodes.get(name));
  const changed = [];
  for (const [key, { a, b, state }] of links) {
    const old = known.links.get(key);
    if (old && old.state !== state && lasting(a) && lasting(b)) changed.push({ a, b, word: LINK_WORDS[state] });
  }
  return grouped(changed);
}

/** "link n1–n3 is down", or "3 links of n3 are down" where one node has them all. */
function grouped(changed) {
  const sentences = [];
  let rest = changed;
  for (;;) {
    const groups = groupBy(rest.flatMap((link) => [[link.a, link], [link.b, link]]), ([name, { word }]) => `${name}|${word}`);
    const largest = [...groups.values()].sort((one, other) => other.length - one.length)[0];
    if (!largest || largest.length <= LINKS_TOLD_APART_MAX) break;
    const [name, { word }] = largest[0];
    sentences.push(`${largest.length} links of ${name} are ${word}`);
    const told = new Set(largest.map(([, link]) => link));
    rest = rest.filter((link) => !told.has(link));
  }
  return [...sentences, ...rest.map(({ a, b, word }) => `link ${linkName(a, b)} is ${word}`)];
}

function groupBy(entries, key) {
  const groups = new Map();
  for (const entry of entries) groups.set(key(entry), [...(groups.get(key(entry)) ?? []), entry]);
  return groups;
}

// ---- detours ----------------------------------------------------------------------------------

/** Who goes by way of whom, of those that were asked; the others as they last said. */
function detourMap(mesh, before, nodes) {
  const kept = [...before].filter(([, { from, to }]) => !mesh.answering.includes(from) && here(nodes.get(from)) && here(nodes.get(to)));
  return new Map([...kept, ...mesh.detours.map((detour) => [`${detour.from}|${detour.to}`, detour])]);
}

function detourSentences(before, after, links, nodes) {
  const began = [...after].filter(([key, { by }]) => before.get(key)?.by !== by).map(([, detour]) => detour);
  const ended = [...before].filter(([key]) => !after.has(key)).map(([, detour]) => detour);
  return [...detourStarts(began), ...detourEnds(ended, links, nodes)];
}

function detourStarts(began) {
  return pairs(began, ({ by }) => by).map(({ from, to, by, mutual }) =>
    (mutual ? `${from} and ${to} reach each other by way of ${by}` : `${from} reaches ${to} by way of ${by}`));
}

function detourEnds(ended, links, nodes) {
  const alive = ended.filter(({ from, to }) => here(nodes.get(from)) && here(nodes.get(to)));
  return pairs(alive, () => "").map(({ from, to, by, mutual }) => {
    const direct = [...links.values()].some(({ a, b, state }) => state === "up" && [a, b].includes(from) && [a, b].includes(to));
    if (!direct) return `${mutual ? list([from, to]) : from} no longer ${mutual ? "reach each other" : `reaches ${to}`} by way of ${by}`;
    return mutual ? `${from} and ${to} reach each other directly again` : `${from} reaches ${to} directly again`;
  });
}

/** Two detours that are one another's way back, by the same word, are one. */
function pairs(detours, word) {
  const found = [];
  for (const detour of detours) {
    const back = found.find(({ from, to, ...other }) => from === detour.to && to === detour.from && word(other) === word(detour));
    if (back) back.mutual = true;
    else found.push({ ...detour, mutual: false });
  }
  return found;
}
