// The page: asks, merges, draws, says. Each of these is a module of its own.

import { plan, tell } from "./actions.mjs";
import { note, nothingKnown } from "./changes.mjs";
import { Chosen } from "./chosen.mjs";
import { byId, facts, html, show, write } from "./elements.mjs";
import { remember } from "./layout.mjs";
import { merge, totals } from "./mesh.mjs";
import { keepMoving } from "./motion.mjs";
import { News } from "./news.mjs";
import { Picture } from "./picture.mjs";
import { Polling } from "./poll.mjs";
import { Tables } from "./tables.mjs";
import { clock, count, list } from "./words.mjs";

/** Answers come one by one; they are drawn together. */
const DRAW_EVERY_MS = 200;
/** Many nodes answer more often, and take longer to draw. */
const DRAW_MANY_EVERY_MS = 500;
const MANY_NODES_MIN = 5;
const LOG_LENGTH_MAX = 200;
/** A page in another's frame could be clicked without being seen. */
const framed = window.top !== window.self;

let home = null;
let mesh = null;
let known = nothingKnown();
let places = [];
let chosen = null;
let drawTimer = null;

const polling = new Polling(new URL("./", location.href).href, soon);
const news = new News();
const picture = new Picture(byId("picture"), choose);
const tables = new Tables(choose);
const panel = new Chosen(act);
const about = facts(byId("about"));
const figures = facts(byId("totals"));

function heard() {
  return polling.views().map((view) => (framed ? { ...view, dev: false } : view));
}

function soon() {
  drawTimer ??= setTimeout(() => {
    drawTimer = null;
    update();
  }, mesh && mesh.nodes.length >= MANY_NODES_MIN ? DRAW_MANY_EVERY_MS : DRAW_EVERY_MS);
}

function update() {
  const views = heard();
  home ??= views[0]?.node ?? null;
  const merged = merge(views, home);
  if (merged) {
    mesh = merged;
    polling.follow(mesh, home);
    // What is only now asked for the first time has not happened now.
    if (known.nodes || polling.settled()) {
      const noted = note(known, mesh);
      known = noted.known;
      log(noted.sentences);
    }
  }
  drawState(merged !== null);
  if (mesh) draw(views);
}

function draw(views) {
  places = remember(places, mesh.nodes, performance.now());
  byId("main").removeAttribute("aria-busy");
  about.draw([["Node", home], ["Cluster", mesh.cluster || "–"], ["Version", mesh.version || "–"], ...(mesh.dev ? [["Mode", "dev"]] : [])], ([term]) => term);
  drawTotals();
  drawPicture();
  tables.draw(mesh, chosen);
  panel.draw(mesh, views, chosen);
  show(byId("heal-all"), mesh.dev && plan(mesh, views, { kind: "heal-all" }).length > 0);
}

function drawPicture() {
  const area = byId("picture");
  if (mesh && area.clientWidth && area.clientHeight) picture.draw(mesh, places, { width: area.clientWidth, height: area.clientHeight }, chosen);
}

function drawTotals() {
  const sums = totals(mesh);
  figures.draw([
    ["Nodes alive", sums.alive === sums.nodes ? String(sums.nodes) : `${sums.alive} of ${sums.nodes}`],
    ["Links up", sums.up === sums.links ? String(sums.links) : `${sums.up} of ${sums.links}`],
    ["Detours", String(sums.detours)],
    ["Hidden nodes", String(sums.hidden)],
    ["Members", String(sums.members)],
    ["Rooms", String(sums.rooms)],
  ], ([term]) => term);
}

// ---- who answers ------------------------------------------------------------------------------

function drawState(answered) {
  const silent_ms = polling.silent_ms();
  const name = home ?? "The node";
  const state = byId("state");
  document.body.dataset.fresh = String(answered);
  if (silent_ms !== null) {
    state.dataset.state = "silent";
    const tellers = answered && mesh ? mesh.answering.filter((node) => node !== home) : [];
    const others = tellers.length ? `; shown is what ${list(tellers)} ${tellers.length > 1 ? "tell" : "tells"}` : "";
    write(state, `${name} does not answer since ${Math.max(1, Math.round(silent_ms / 1000))} s${others}`);
    return;
  }
  if (!mesh) return;
  state.dataset.state = "live";
  const expected = mesh.dev ? mesh.nodes.filter(({ state }) => state !== "down").length : 1;
  const { length } = mesh.answering;
  write(state, length === 1 && expected === 1 ? `Live from ${mesh.answering[0]}` : `Live from ${length} of ${count(expected, "node")}`);
}

// ---- what happened ----------------------------------------------------------------------------

function log(sentences) {
  if (!sentences.length) return;
  const now = Date.now();
  for (const sentence of sentences) {
    const time = html("time", { datetime: new Date(now).toISOString() }, clock(now));
    byId("log").prepend(html("li", {}, time, html("span", {}, sentence)));
  }
  while (byId("log").children.length > LOG_LENGTH_MAX) byId("log").lastElementChild.remove();
  news.add(sentences);
  say();
}

function say() {
  const sentence = news.due(performance.now());
  if (sentence) byId("news").replaceChildren(html("p", {}, sentence));
}

// ---- what somebody does -----------------------------------------------------------------------

function choose(part) {
  chosen = chosen === part ? null : part;
  write(byId("answer"), "");
  if (!mesh) return;
  draw(heard());
  if (chosen && byId("chosen-card").getBoundingClientRect().top > innerHeight) byId("chosen-card").scrollIntoView({ block: "nearest" });
}

async function act(wish) {
  write(byId("answer"), "");
  const steps = plan(mesh, polling.views(), wish);
  const outcomes = await Promise.allSettled(steps.map((step) => tell(polling.base(step.node, home), step)));
  const refused = outcomes.filter(({ status }) => status === "rejected").map(({ reason }) => reason.message);
  write(byId("answer"), refused.join(" "));
  polling.hurry();
}

byId("heal-all").addEventListener("click", () => void act({ kind: "heal-all" }));
new ResizeObserver(drawPicture).observe(byId("picture"));
// Time passes also while nobody answers.
setInterval(() => {
  say();
  drawState(polling.views().length > 0);
}, 500);
keepMoving((seconds) => picture.move(seconds));
polling.start();
