// How names, figures and states are written.

const NAME_LENGTH_MAX = 64;
/** More nodes than these are counted instead of named. */
const NODES_LISTED_MAX = 3;

/** Most names: nothing about them has to be looked at closer. */
const PLAIN = /^[\w.-]*$/;

/** Text from elsewhere, fit to show: no control, override or half characters, and not too long. */
export function tidy(text, length_max = NAME_LENGTH_MAX) {
  if (typeof text !== "string") return "";
  if (text.length <= length_max && PLAIN.test(text)) return text;
  const visible = text.slice(0, 4 * length_max)
    .replace(/[\p{Cc}\p{Cs}\u200e\u200f\u202a-\u202e\u2066-\u2069]/gu, " ").replace(/\s+/gu, " ").trim();
  return [...visible].slice(0, length_max).join("");
}

export const linkName = (a, b) => `${a}–${b}`;

export function milliseconds(value) {
  if (value === null) return "–";
  if (value < 1) return `${value.toFixed(2)} ms`;
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 10_000) return `${Math.round(value)} ms`;
  return `${Math.round(value / 1000)} s`;
}

/** A share from 0 to 1, in percent. */
export function percent(share) {
  if (share === null) return "–";
  if (share === 0) return "0 %";
  if (share < 0.001) return "< 0.1 %";
  return `${(100 * share).toFixed(share < 0.1 ? 1 : 0)} %`;
}

/** Bytes per second. */
export function rate(bytes) {
  if (bytes === null) return "–";
  if (bytes < 1000) return `${Math.round(bytes)} B/s`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(1)} kB/s`;
  return `${(bytes / 1_000_000).toFixed(1)} MB/s`;
}

export const count = (number, noun) => `${number} ${noun}${number === 1 ? "" : "s"}`;

/** "n1", "n1 and n2", "n1, n2 and n3". */
export function list(words) {
  if (words.length < 2) return words.join("");
  return `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}

/** The time of day, as 12:03:04. */
export const clock = (at) => {
  const time = new Date(at);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
};

/** How a node is, in a few words; empty if there is nothing to say. */
export function nodeNote(node) {
  if (node.state !== "alive") return node.state;
  return node.hidden ? "hidden" : "";
}

/** How a node is, with the reason. */
export function nodeState(node) {
  const parts = [node.state];
  const from = node.hidden_from.length > NODES_LISTED_MAX ? count(node.hidden_from.length, "node") : list(node.hidden_from);
  if (node.hidden) parts.push(`hidden from ${from}${node.hidden_because ? `: ${node.hidden_because}` : ""}`);
  else if (node.hidden_from.length) parts.push(`hidden from ${from}, not from here`);
  if (node.state === "alive" && node.doubted_by.length) parts.push(`doubted by ${list(node.doubted_by)}`);
  return parts.join("; ");
}

const LINK_STATES = { up: "up", cut: "cut on purpose", down: "down", unknown: "not known" };

/** How a link is, and how its ends reach each other without it. */
export function linkState(link) {
  const ways = link.detours.map(({ from, to, by }) => `${from} reaches ${to} by way of ${by}`);
  const mutual = link.detours.length === 2 && link.detours[0].by === link.detours[1].by;
  return [LINK_STATES[link.state], ...(mutual ? [`by way of ${link.detours[0].by}`] : ways)].join("; ");
}

/** Loss and traffic have two directions; one figure is shown where they are the same or one is unknown. */
export function bothWays(forward, back, words) {
  if (back === null) return words(forward);
  if (forward === null || words(forward) === words(back)) return words(back);
  return `${words(forward)} → ← ${words(back)}`;
}
