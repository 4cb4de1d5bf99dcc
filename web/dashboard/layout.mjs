// Where nodes are drawn: on an ellipse, so that no link runs through a third node; neighbours share a
// region; and a node that was there a moment ago keeps its place free, so that the others stay put.

import { byName } from "./mesh.mjs";

/** How long the place of a node that is gone stays free. */
export const PLACE_KEPT_MS = 60_000;
/** The free space between two regions, in places. */
const REGION_GAP = 0.7;

/** The places [{node, region, seen_at}] in order, with the nodes that are there now. */
export function remember(places, nodes, now) {
  const known = new Map(places.filter(({ seen_at }) => now - seen_at < PLACE_KEPT_MS).map((place) => [place.node, place]));
  for (const { node, region } of nodes) known.set(node, { node, region, seen_at: now });
  return [...known.values()].sort((one, other) => byName(one.region, other.region) || byName(one.node, other.node));
}

/**
 * Where each place is in an area of width × height pixels: {radius, center, at: Map node → {x, y,
 * angle}, regions: [{region, from, to, path}]}, `radius` being a node's.
 */
export function arrange(places, { width, height }) {
  const radius = nodeRadius(places.length, width);
  const center = { x: width / 2, y: height / 2 };
  const narrow = width < 480;
  const reach = { x: Math.max(center.x - radius - (narrow ? 26 : 64), 10), y: Math.max(center.y - radius - 50, 10) };
  const at = new Map();
  if (places.length === 1) {
    at.set(places[0].node, { ...center, angle: Math.PI / 2 });
    return { radius, center, at, regions: [] };
  }
  const names = [...new Set(places.map(({ region }) => region))];
  const gap = names.length > 1 ? REGION_GAP : 0;
  const step = (2 * Math.PI) / (places.length + gap * names.length);
  const point = (angle, out = 0) => ({
    x: center.x + (reach.x + out) * Math.cos(angle), y: center.y + (reach.y + out) * Math.sin(angle), angle,
  });
  // Two nodes lie side by side; more begin at the top, the first region around it.
  const firstCount = places.filter(({ region }) => region === places[0].region).length;
  let angle = places.length === 2 ? Math.PI : -Math.PI / 2 - (gap ? ((firstCount - 1) / 2) * step : 0);
  const regions = [];
  for (const [index, { node, region }] of places.entries()) {
    if (index > 0) angle += step * (region === places[index - 1].region ? 1 : 1 + gap);
    at.set(node, point(angle));
    const last = regions.at(-1);
    if (last?.region === region) last.to = angle;
    else regions.push({ region, from: angle, to: angle });
  }
  // Few nodes do not fill the ellipse evenly: what they do fill goes to the middle.
  const heights = [...at.values()].map(({ y }) => y);
  const shift = center.y - (Math.min(...heights) + Math.max(...heights)) / 2;
  center.y += shift;
  for (const position of at.values()) position.y += shift;
  for (const region of regions) region.path = arc(point, region.from - step * 0.3, region.to + step * 0.3);
  return { radius, center, at, regions: gap ? regions : [] };
}

function nodeRadius(count, width) {
  const wide = count <= 6 ? 26 : count <= 12 ? 21 : count <= 20 ? 13 : 9;
  return width < 480 ? Math.round(wide * 0.75) : wide;
}

/** A polyline along the ellipse: short enough pieces look round. */
function arc(point, from, to) {
  const pieces = Math.max(2, Math.ceil((to - from) / 0.08));
  return Array.from({ length: pieces + 1 }, (_, piece) => {
    const { x, y } = point(from + ((to - from) * piece) / pieces);
    return `${piece ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`;
  }).join("");
}

/**
 * The curve of a detour from one node to another by way of a third, at which it bends, and where its
 * label goes: on the longer half.
 */
export function detourCurve(from, by, to) {
  const control = { x: 2 * by.x - (from.x + to.x) / 2, y: 2 * by.y - (from.y + to.y) / 2 };
  const on = (t) => ({
    x: (1 - t) ** 2 * from.x + 2 * t * (1 - t) * control.x + t ** 2 * to.x,
    y: (1 - t) ** 2 * from.y + 2 * t * (1 - t) * control.y + t ** 2 * to.y,
  });
  const text = ({ x, y }) => `${x.toFixed(1)} ${y.toFixed(1)}`;
  const half = (end) => Math.hypot(by.x - end.x, by.y - end.y);
  return { path: `M${text(from)}Q${text(control)} ${text(to)}`, label: on(half(from) > half(to) ? 0.3 : 0.7) };
}
