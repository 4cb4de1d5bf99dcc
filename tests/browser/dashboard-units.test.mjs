// The dashboard's pure modules: what views are together, what has happened, where things are drawn.

import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { plan } from "../../web/dashboard/actions.mjs";
import { askableBase } from "../../web/dashboard/address.mjs";
import { note, nothingKnown } from "../../web/dashboard/changes.mjs";
import { PLACE_KEPT_MS, arrange, detourCurve, remember } from "../../web/dashboard/layout.mjs";
import { linkKey, merge, readView, totals } from "../../web/dashboard/mesh.mjs";
import { News, SENTENCE_EVERY_MS } from "../../web/dashboard/news.mjs";
import { withRates } from "../../web/dashboard/traffic.mjs";
import { bothWays, linkState, list, milliseconds, nodeState, percent, rate, tidy } from "../../web/dashboard/words.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const entry = (node, more = {}) => ({ node, region: "eu", state: "alive", visible: true, members: 1, rooms: 1, boot: "1", url: null, ...more });
const own = (from, to, more = {}) => ({ from, to, rtt_ms: 1, loss: 0, sent_bytes: 0, received_bytes: 0, ...more });

/** A view of n1, n2 and n3 by `node`, with links to `linked`; `others` are more of its nodes' fields, by name. */
function view(node, linked, { others = {}, links = [], ...more } = {}) {
  const answer = {
    node, cluster: "c", version: "1", dev: true, rooms: { count: 1, members: 3, listed: [{ room: "lobby", count: 3 }] },
    nodes: ["n1", "n2", "n3"].map((name) => entry(name, { self: name === node, ...others[name] })),
    links: [...linked.map((to) => own(node, to)), ...links], cuts: [], ...more,
  };
  return readView(answer);
}

const link = (mesh, key) => mesh.links.find((link) => link.key === key);
const node = (mesh, name) => mesh.nodes.find((node) => node.node === name);

// ---- views ------------------------------------------------------------------------------------

test("an answer that is not one is no view, and hostile parts are left out", () => {
  for (const answer of [null, 7, "n1", [], {}, { node: "" }, { node: 7 }]) assert.equal(readView(answer), null);
  const read = readView({
    node: "n1\u202e", dev: "yes", cluster: {}, nodes: [null, 5, { node: "" }, { node: "x", members: -3, rooms: "many", state: "great", url: 7 }],
    links: [null, { from: "n1", to: "n1" }, { from: "n1", to: "x", rtt_ms: "fast", loss: 7, sent_bytes: NaN }],
    rooms: { count: Infinity, listed: [{ room: 5 }, { room: "r".repeat(5000), count: 2 }] }, cuts: "all",
  });
  assert.equal(read.node, "n1");
  assert.equal(read.dev, false);
  assert.deepEqual(read.nodes.map(({ node, members, rooms, state, url }) => ({ node, members, rooms, state, url })), [{ node: "x", members: 0, rooms: 0, state: "suspect", url: null }]);
  assert.deepEqual(read.links, [{ from: "n1", to: "x", rtt_ms: null, loss: 1, sent_bytes: null, received_bytes: null }]);
  assert.equal(read.rooms.count, 0);
  assert.equal(read.rooms.listed.length, 1);
  assert.equal(read.rooms.listed[0].room.length, 200);
  assert.deepEqual(read.cuts, []);
});

test("an answer as long as one likes makes a view of bounded length", () => {
  const read = readView({ node: "n1", nodes: Array.from({ length: 5000 }, (_, index) => entry(`n${index}`)), rooms: { listed: Array.from({ length: 5000 }, (_, index) => ({ room: `${index}`, count: 1 })) } });
  assert.equal(read.nodes.length, 200);
  assert.equal(read.rooms.listed.length, 100);
});

test("a link is up when an end that can be asked says so, else as told", () => {
  const told = (from, to) => ({ from, to, rtt_ms: 9, loss: null, sent_bytes: null, received_bytes: null });
  const alone = merge([view("n1", ["n2"], { links: [told("n2", "n3"), told("n3", "n1")] })], "n1");
  assert.equal(link(alone, "n1|n2").state, "up");
  assert.equal(link(alone, "n1|n3").state, "down", "n1 can be asked; what n3 is said to say is older");
  assert.equal(link(alone, "n2|n3").state, "up");
  assert.equal(link(alone, "n2|n3").rtt_ms, 9);

  const both = merge([view("n1", ["n2", "n3"]), view("n3", [])], "n1");
  assert.equal(link(both, "n1|n3").state, "up", "one of two ends says so");
  assert.equal(link(both, "n2|n3").state, "down", "told by nobody, and n3 says no");

  const silence = merge([view("n1", ["n2", "n3"])], "n1");
  assert.equal(link(silence, "n2|n3").state, "unknown", "neither end tells anything");
});

test("a cut on purpose is told from a link that is down, whichever end knows", () => {
  const cut = merge([view("n1", ["n2"]), view("n3", ["n2"], { cuts: ["n1"] })], "n1");
  assert.equal(link(cut, "n1|n3").state, "cut");
});

test("figures come from the end that measured them, each direction from its sender", () => {
  const first = withRates(view("n1", [], { links: [own("n1", "n3", { rtt_ms: 5, loss: 0.1, sent_bytes: 1000, received_bytes: 0 })] }), null, NaN);
  const second = withRates(view("n1", [], { links: [own("n1", "n3", { rtt_ms: 5, loss: 0.1, sent_bytes: 3000, received_bytes: 500 })] }), first, 2000);
  assert.equal(first.links[0].sent_rate, null);
  assert.deepEqual([second.links[0].sent_rate, second.links[0].received_rate], [1000, 250]);
  const mesh = merge([second, view("n3", [], { links: [own("n3", "n1", { rtt_ms: 6, loss: 0.2 })] })], "n1");
  const { rtt_ms, loss_forward, loss_back, rate_forward, rate_back, measured_by } = link(mesh, "n1|n3");
  assert.deepEqual({ rtt_ms, loss_forward, loss_back, rate_forward, rate_back, measured_by },
    { rtt_ms: 5, loss_forward: 0.1, loss_back: 0.2, rate_forward: 1000, rate_back: 250, measured_by: ["n1", "n3"] });
});

test("a counter that went back, or another life of the node, is no traffic", () => {
  const at = (bytes, boot) => view("n1", [], { links: [own("n1", "n3", { sent_bytes: bytes })], others: { n1: { boot } } });
  assert.equal(withRates(at(10, "1"), at(500, "1"), 500).links[0].sent_rate, null);
  assert.equal(withRates(at(900, "2"), at(500, "1"), 500).links[0].sent_rate, null);
  assert.equal(withRates(at(900, "1"), at(500, "1"), 500).links[0].sent_rate, 800);
});

test("who answers is alive; who is hidden is so for the page's own node, with the reason", () => {
  const doubt = { n3: { state: "down" } };
  const answered = merge([view("n1", ["n2"], { others: doubt }), view("n3", ["n2"])], "n1");
  assert.equal(node(answered, "n3").state, "alive");
  assert.deepEqual(node(answered, "n3").doubted_by, ["n1"]);

  const late = { visible: false, hidden_because: "late" };
  const hidden = merge([view("n1", ["n2", "n3"], { others: { n3: late } }), view("n2", ["n1", "n3"])], "n1");
  assert.equal(node(hidden, "n3").hidden, true);
  assert.equal(nodeState(node(hidden, "n3")), "alive; hidden from n1: late");
  const elsewhere = merge([view("n1", ["n2", "n3"]), view("n2", ["n1"], { others: { n3: late } })], "n1");
  assert.equal(node(elsewhere, "n3").hidden, false);
  assert.match(nodeState(node(elsewhere, "n3")), /hidden from n2, not from here/);
});

test("a node that only another one knows is hidden here", () => {
  const more = view("n2", ["n1", "n3"]);
  more.nodes.push(...readView({ node: "x", nodes: [entry("n4")] }).nodes);
  const mesh = merge([view("n1", ["n2", "n3"]), more], "n1");
  assert.equal(node(mesh, "n4").hidden, true);
  assert.equal(node(mesh, "n4").hidden_because, "n1 does not list it");
});

test("down nodes have no links, and the totals count what is there", () => {
  const mesh = merge([view("n1", ["n2"], { others: { n3: { state: "down", visible: false } } })], "n1");
  assert.deepEqual(mesh.links.map(({ key }) => key), ["n1|n2"]);
  assert.deepEqual(totals(mesh), { nodes: 2, alive: 2, hidden: 0, links: 1, up: 1, detours: 0, members: 3, rooms: 1 });
});

test("without any view there is no mesh; without the own node the others' views are one", () => {
  assert.equal(merge([], "n1"), null);
  assert.equal(merge([view("n2", ["n1"])], "n1").home, "n2");
});

test("names have one order, numbers by their value", () => {
  assert.equal(linkKey("n10", "n9"), "n9|n10");
  assert.equal(linkKey("n9", "n10"), "n9|n10");
});

// ---- what happened ----------------------------------------------------------------------------

/** The sentences of each step after the first. */
function story(...meshes) {
  let known = nothingKnown();
  return meshes.map((mesh) => {
    const noted = note(known, mesh);
    known = noted.known;
    return noted.sentences;
  });
}

const whole = () => merge([view("n1", ["n2", "n3"]), view("n2", ["n1", "n3"]), view("n3", ["n1", "n2"])], "n1");
const around = { n3: { relay: "n2" } };
const back = { n1: { relay: "n2" } };

test("a cut and its healing, as it is told", () => {
  const cutting = merge([view("n1", ["n2", "n3"], { cuts: ["n3"] }), view("n2", ["n1", "n3"]), view("n3", ["n1", "n2"])], "n1");
  const relayed = merge([view("n1", ["n2"], { cuts: ["n3"], others: around }), view("n2", ["n1", "n3"]), view("n3", ["n2"], { others: back })], "n1");
  const healed = merge([view("n1", ["n2"], { others: around }), view("n2", ["n1", "n3"]), view("n3", ["n2"], { others: back })], "n1");
  assert.deepEqual(story(whole(), cutting, relayed, healed, whole(), whole()), [
    ["n1 tells of 3 nodes"],
    ["link n1–n3 is cut on purpose"],
    ["n1 and n3 reach each other by way of n2"],
    ["link n1–n3 is down"],
    ["link n1–n3 is up again", "n1 and n3 reach each other directly again"],
    [],
  ]);
});

test("a cut stays one on purpose while the end that knows is not heard", () => {
  const cut = merge([view("n1", ["n2"], { cuts: ["n3"] }), view("n3", ["n2"])], "n1");
  const missed = merge([view("n3", ["n2"])], "n1");
  const healing = merge([view("n1", ["n2"]), view("n3", ["n2"])], "n1");
  assert.deepEqual(story(cut, missed, cut, healing).slice(1), [[], [], ["link n1–n3 is down"]]);
});

test("one direction alone, another way round, and a way that ends", () => {
  const one = (relay) => merge([view("n1", ["n2"], { others: { n3: { relay } } })], "n1");
  const [, began, changed, ended] = story(one(null), one("n2"), one("n4"), one(null));
  assert.deepEqual(began, ["n1 reaches n3 by way of n2"]);
  assert.deepEqual(changed, ["n1 reaches n3 by way of n4"]);
  assert.deepEqual(ended, ["n1 no longer reaches n3 by way of n4"]);
});

test("a node that stops is one sentence, not one for each link; its silence before is none", () => {
  const silent = merge([view("n1", ["n2", "n3"]), view("n2", ["n1", "n3"])], "n1");
  const down = { others: { n3: { state: "down", visible: false } } };
  const stopped = merge([view("n1", ["n2"], down), view("n2", ["n1"], down)], "n1");
  const two = merge([view("n1", ["n2"]), view("n2", ["n1"])].map((view) => ({ ...view, nodes: view.nodes.slice(0, 2) })), "n1");
  assert.deepEqual(story(whole(), silent, stopped, two, whole()).slice(1), [[], ["n3 is down"], ["n3 is gone"], ["n3 is new in region eu"]]);
});

test("a node's detour is not over because the node is not heard for a moment", () => {
  const relayed = merge([view("n1", ["n2"]), view("n2", ["n1", "n3"]), view("n3", ["n2"], { others: back })], "n1");
  const missed = merge([view("n1", ["n2"]), view("n2", ["n1", "n3"])], "n1");
  assert.deepEqual(story(whole(), relayed, missed, relayed).slice(2), [[], []]);
  assert.deepEqual(story(relayed, missed, whole())[2], ["link n1–n3 is up again", "n3 reaches n1 directly again"]);
});

test("suspicion, hiding and a new life are told, and many links of one node in one sentence", () => {
  const odd = (fields) => merge([view("n1", ["n2", "n3"], { others: { n3: fields } })], "n1");
  const steps = story(odd({}), odd({ state: "suspect" }), odd({ visible: false, hidden_because: "its state is old" }), odd({}), odd({ boot: "2" }));
  assert.deepEqual(steps.slice(1), [["n3 is suspected"], ["n3 is alive again", "n3 is hidden: its state is old"], ["n3 is shown again"], ["n3 has started anew"]]);

  const four = (linked) => {
    const read = view("n1", linked);
    read.nodes.push({ ...read.nodes[0], node: "n4" });
    return merge([read], "n1");
  };
  assert.deepEqual(story(four(["n2", "n3", "n4"]), four([]))[1], ["3 links of n1 are down"]);
});

test("what is out of the ordinary when the page opens is told at once", () => {
  const relayed = merge([view("n1", ["n2"], { cuts: ["n3"], others: { n3: { relay: "n2", visible: false, hidden_because: "late" } } })], "n1");
  assert.deepEqual(story(relayed)[0], ["n1 tells of 3 nodes", "n3 is hidden: late", "link n1–n3 is cut on purpose", "n1 reaches n3 by way of n2"]);
});

test("sentences are said one at a time, at most one in two seconds, and none is swallowed unsaid", () => {
  const news = new News();
  assert.equal(news.due(0), null);
  news.add(["one"]);
  assert.equal(news.due(0), "one.");
  news.add(["two"]);
  news.add(["three", "four"]);
  assert.equal(news.due(SENTENCE_EVERY_MS - 1), null);
  assert.equal(news.due(SENTENCE_EVERY_MS), "two, and 2 more in the log.");
  assert.equal(news.due(10 * SENTENCE_EVERY_MS), null);
});

// ---- where things are drawn -------------------------------------------------------------------

const names = (count) => Array.from({ length: count }, (_, index) => ({ node: `n${index + 1}`, region: ["eu", "us", "ap"][index % 3] }));

test("1, 3, 10 and 30 nodes are inside the picture and apart, wide and on a phone", () => {
  for (const count of [1, 2, 3, 10, 30]) {
    for (const size of [{ width: 780, height: 500 }, { width: 324, height: 350 }]) {
      const { at, radius } = arrange(remember([], names(count), 0), size);
      const all = [...at.values()];
      assert.equal(all.length, count);
      for (const { x, y } of all) {
        assert.ok(x >= radius && x <= size.width - radius && y >= radius && y <= size.height - radius, `${count} in ${size.width}: ${x}, ${y}`);
      }
      for (const [index, one] of all.entries()) {
        for (const other of all.slice(index + 1)) {
          assert.ok(Math.hypot(one.x - other.x, one.y - other.y) > 2 * radius, `${count} nodes in ${size.width} overlap`);
        }
      }
    }
  }
});

test("a region's nodes are neighbours, and the place of one that is gone stays free for a while", () => {
  const before = remember([], names(9), 0);
  assert.deepEqual(before.map(({ region }) => region), ["ap", "ap", "ap", "eu", "eu", "eu", "us", "us", "us"]);
  const size = { width: 780, height: 500 };
  const fewer = names(9).filter(({ node }) => node !== "n5");
  const soon = remember(before, fewer, PLACE_KEPT_MS - 1);
  assert.deepEqual(arrange(soon, size).at.get("n4"), arrange(before, size).at.get("n4"));
  assert.equal(remember(soon, fewer, PLACE_KEPT_MS).length, 8);
});

test("the curve of a detour goes through the node on the way", () => {
  const { path } = detourCurve({ x: 0, y: 0 }, { x: 50, y: 80 }, { x: 100, y: 0 });
  const [x0, y0, cx, cy, x1, y1] = path.match(/-?[\d.]+/g).map(Number);
  assert.deepEqual([(x0 + 2 * cx + x1) / 4, (y0 + 2 * cy + y1) / 4], [50, 80]);
});

// ---- what can be done -------------------------------------------------------------------------

test("one end that answers is told to cut, every end that cut is told to heal, and only itself to stop", () => {
  const views = [view("n1", ["n2"]), view("n2", ["n1"], { cuts: ["n3"] }), view("n3", [], { cuts: ["n2"] })];
  const mesh = merge(views, "n1");
  assert.deepEqual(plan(mesh, views, { kind: "cut", a: "n2", b: "n3" }), [{ node: "n2", action: "cut", body: { peer: "n3" } }]);
  assert.deepEqual(plan(mesh, views, { kind: "heal", a: "n2", b: "n3" }),
    [{ node: "n2", action: "heal", body: { peer: "n3" } }, { node: "n3", action: "heal", body: { peer: "n2" } }]);
  assert.deepEqual(plan(mesh, views, { kind: "heal-all" }).map(({ node }) => node), ["n2", "n3"]);
  assert.deepEqual(plan(mesh, views, { kind: "stop", node: "n3" }), [{ node: "n3", action: "stop", body: {} }]);

  const own = merge(views.slice(0, 1), "n1");
  assert.deepEqual(plan(own, views.slice(0, 1), { kind: "cut", a: "n1", b: "n3" }).map(({ node }) => node), ["n1"]);
  assert.deepEqual(plan(own, views.slice(0, 1), { kind: "cut", a: "n2", b: "n3" }), []);
  assert.deepEqual(plan(own, views.slice(0, 1), { kind: "stop", node: "n3" }), []);
});

test("only loopback can be asked", () => {
  assert.equal(askableBase("ws://127.0.0.1:7071/v1"), "http://127.0.0.1:7071/");
  assert.equal(askableBase("wss://localhost:7071/v1"), "https://localhost:7071/");
  assert.equal(askableBase("ws://[::1]:7071/v1"), "http://[::1]:7071/");
  for (const url of ["wss://eu.example.org/v1", "ws://10.0.0.1/v1", "ws://127.0.0.1.example.org/v1", "javascript:alert(1)", "file:///etc", "nonsense", "ws://localhost@example.org/"]) {
    assert.equal(askableBase(url), null, url);
  }
});

// ---- words ------------------------------------------------------------------------------------

test("figures are short and have their unit", () => {
  assert.deepEqual([null, 0.417, 3.14, 80.6, 12_345].map(milliseconds), ["–", "0.42 ms", "3.1 ms", "81 ms", "12 s"]);
  assert.deepEqual([null, 0, 0.0004, 0.013, 0.5].map(percent), ["–", "0 %", "< 0.1 %", "1.3 %", "50 %"]);
  assert.deepEqual([null, 0, 999, 1234, 5_600_000].map(rate), ["–", "0 B/s", "999 B/s", "1.2 kB/s", "5.6 MB/s"]);
  assert.equal(bothWays(0, 0.02, percent), "0 % → ← 2.0 %");
  assert.equal(bothWays(0, null, percent), "0 %");
  assert.equal(list(["a", "b", "c"]), "a, b and c");
  assert.equal(linkState({ state: "cut", detours: [{ from: "n1", to: "n3", by: "n2" }, { from: "n3", to: "n1", by: "n2" }] }), "cut on purpose; by way of n2");
});

test("text from elsewhere is shown without tricks", () => {
  assert.equal(tidy("eu-1"), "eu-1");
  assert.equal(tidy("a\u202eb\n\u0007c\ud800"), "a b c");
  assert.equal(tidy("x".repeat(999)).length, 64);
  assert.equal(tidy({ toString: () => "no" }), "");
});

// ---- the binary -------------------------------------------------------------------------------

test("every file of the dashboard is in the binary", () => {
  const assets = readFileSync(`${ROOT}web/src/assets.rs`, "utf8");
  for (const file of readdirSync(`${ROOT}web/dashboard`)) {
    const [line] = assets.match(new RegExp(`"/dashboard${file === "index.html" ? "" : `/${file.replace(".", "\\.")}`}" => .*`)) ?? [""];
    assert.ok(line.includes(`${file}"`), `${file} is not served`);
  }
});
