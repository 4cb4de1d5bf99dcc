// The main path in the other engines: Firefox on n1 and WebKit on n2, beside Chromium on n3. Where one
// is not installed, its part is skipped and says why; the others still meet.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, changed, cursors, idOf, mark, newPage, openDemo, openRaw, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { shown } from "./harness/dashboard.mjs";
import { collectSparks, drawn, faces, middle, site } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";
import { firefoxAbsent, openFirefox } from "./harness/firefox.mjs";
import { openWebkit, webkitAbsent } from "./harness/webkit.mjs";

const PLACE_PX = 2;
/** From the crash of its node to the moment when the others see a page's pointer move again. */
const RECOVERED_WITHIN_MS = 15_000;
/** For as long a member stays whose page went away. */
const GRACE_MS = 10_000;
/** A page is opened and in its room by then, also by an engine that is slow to start. */
const SLOW = { within_ms: 30_000 };

const ENGINES = [
  { name: "Firefox", node: "n1", absent: firefoxAbsent, open: openFirefox },
  { name: "WebKit", node: "n2", absent: webkitAbsent, open: openWebkit },
];

/**
 * Opens a page in every engine that is there, by `enter`, and one in Chromium by `beside`; then runs
 * `part` for each engine as a test of its own, with its page, the others', and the cluster.
 */
async function inEngines(t, { enter, beside }, part) {
  const reasons = new Map();
  for (const engine of ENGINES) reasons.set(engine, await engine.absent());
  const skip = (engine) => t.test(`in ${engine.name}`, (t) => t.skip(reasons.get(engine)));
  const there = ENGINES.filter((engine) => reasons.get(engine) === null);
  for (const engine of ENGINES) if (!there.includes(engine)) await skip(engine);
  if (there.length === 0) return t.skip([...reasons.values()].join("; "));
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const visits = [{ name: "Chromium", node: "n3", page: await beside(chromium, cluster) }];
    for (const { name, node, open } of there) {
      const page = await open(t);
      t.diagnostic(`${name}: ${page.version}`);
      await enter(page, cluster, node, name);
      visits.push({ name, node, page });
    }
    for (const engine of there) {
      await t.test(`in ${engine.name}`, { timeout: 120_000 }, async (t) => {
        const visit = visits.find(({ name }) => name === engine.name);
        const others = visits.filter((other) => other !== visit);
        try {
          await part(t, { ...visit, others, visits, cluster, chromium });
          for (const { name, page } of visits) assert.deepEqual(await page.errors, [], `errors in ${name}`);
        } catch (error) {
          for (const { name, page } of visits) await screenshot(page, `engines-failed-${name}`).catch(() => {});
          console.error(cluster.logs());
          throw error;
        }
      });
    }
  });
}

/** Waits until a page draws the cursor of `name` where it belongs, to within 2 px; gives its member's id. */
function sees(page, name, { x, y }, options) {
  return eventually(`the cursor of ${name} is at ${x}, ${y}`, async () => {
    const all = await drawn(page);
    const cursor = all.find((cursor) => cursor.name === name);
    assert.ok(cursor && Math.hypot(cursor.x - x, cursor.y - y) <= PLACE_PX, JSON.stringify(all));
    return cursor.id;
  }, options);
}

/** Waits until a page of the tutorial's kind, or ours, shows a cursor there; gives its sender. */
function showsOne(page, { x, y }) {
  return eventually(`a cursor is at ${x}, ${y}`, async () => {
    const all = await cursors(page);
    const found = Object.entries(all).find(([, cursor]) => Math.hypot(cursor.x - x, cursor.y - y) <= PLACE_PX);
    assert.ok(found, JSON.stringify(all));
    return found[0];
  });
}

/** Moves a page's pointer as a hand does: not in one leap. */
async function moveTo(page, { x, y }) {
  for (const left of [12, 6, 0]) await page.mouse.move(x - left, y - left);
}

// ---- the demo page ------------------------------------------------------------------------------

const nodeOf = (page) => page.evaluate(() => document.getElementById("node-name").textContent);
const online = (page) => page.evaluate(() => document.getElementById("state").dataset.state === "connected");

async function enterDemo(page, cluster, node, name) {
  await page.goto(cluster.url(node, "/?room=engines"));
  await eventually("the demo page is connected", () => online(page), SLOW);
  await page.evaluate(() => {
    const field = document.getElementById("name");
    field.focus();
    field.select();
  });
  await page.keyboard.type(name);
  await page.evaluate(() => document.activeElement.blur());
  await eventually("the name is taken", async () => (await peopleByNode(page))[node]?.includes(name));
}

const besideDemo = (chromium, cluster) => openDemo(chromium, cluster, "n3", "Chromium", { room: "engines" });

test("the demo page", { timeout: 300_000 }, (t) => inEngines(t, { enter: enterDemo, beside: besideDemo }, async (t, { name, node, page, others: rest, visits, cluster, chromium }) => {
  for (const { page } of visits) {
    await eventually("everyone is listed", async () => {
      const listed = Object.values(await peopleByNode(page)).flat();
      assert.deepEqual(listed.sort(), visits.map(({ name }) => name).sort());
      return true;
    });
  }

  // Each sees the others where they point.
  const place = { x: 310, y: 300 };
  await moveTo(page, place);
  const ids = await Promise.all(rest.map((other) => sees(other.page, name, place)));
  const id = await idOf(page);
  for (const seen of ids) assert.equal(seen, id);
  for (const [index, other] of rest.entries()) {
    const there = { x: 240 + 130 * index, y: 360 + 40 * index };
    await moveTo(other.page, there);
    await sees(page, other.name, there);
  }
  await screenshot(page, `engines-demo-${name}`);

  const edges = await page.evaluate(() => ["swatch", "color", "me"].map((id) => document.getElementById(id).getBoundingClientRect().right));
  assert.ok(Math.max(edges[0], edges[1]) <= edges[2], `nothing sticks out of the form: ${edges}`);

  // Reactions, by key, both ways.
  for (const { page } of visits) await collectSparks(page);
  const sparked = (page, emoji, { x, y }) => eventually(`${emoji} rises at ${x}, ${y}`, async () => {
    const all = await page.evaluate(() => sparks);
    assert.ok(all.some(([text, left, top]) => text === emoji && Math.hypot(left - x, top - y) <= PLACE_PX), JSON.stringify(all));
    return true;
  });
  await page.keyboard.press("3");
  for (const { page } of visits) await sparked(page, "🎉", place);
  const [beside] = rest;
  await beside.page.keyboard.press("6");
  await sparked(page, "🚀", { x: 240, y: 360 });

  // Its node dies, and it is who it was on another one.
  const untouched = [];
  for (const other of rest) {
    if (await nodeOf(other.page) === node) continue;
    await mark(other.page, id);
    untouched.push(other);
  }
  const killed_at = performance.now();
  await cluster.kill(node);
  const after = { x: 350, y: 330 };
  const left = () => RECOVERED_WITHIN_MS - (performance.now() - killed_at);
  await eventually("it is on another node", async () => await nodeOf(page) !== node && online(page), { within_ms: left() });
  const elsewhere_ms = Math.round(performance.now() - killed_at);
  await moveTo(page, after);
  for (const other of rest) assert.equal(await sees(other.page, name, after, { within_ms: left() }), id);
  t.diagnostic(`node killed: on another one after ${elsewhere_ms} ms, its pointer seen by all after ${Math.round(performance.now() - killed_at)} ms`);
  assert.equal(await idOf(page), id);
  for (const other of untouched) assert.deepEqual(await changed(other.page, id), [], `${other.name} saw no leave`);
  await moveTo(beside.page, { x: 260, y: 380 });
  await sees(page, beside.name, { x: 260, y: 380 });
  await cluster.start(node);
  await cluster.whole();

  // Somebody comes, by the tutorial's protocol, and goes at once: that one knows no coming back.
  const guest = await openRaw(chromium, cluster, "n3", { room: "engines" });
  await guest.mouse.move(420, 300);
  const sender = await showsOne(page, { x: 420, y: 300 });
  const listed = (id) => page.evaluate((id) => document.querySelector(`#list [data-member="${id}"]`) !== null, id);
  assert.ok(await listed(sender));
  await guest.context().close();
  await eventually("the guest is gone", async () => !(sender in await cursors(page)) && !await listed(sender));

  // Away and back is the same member; away is gone, after a while.
  await page.goto("about:blank");
  await page.goBack();
  await eventually("the page is back", () => online(page), SLOW);
  assert.equal(await eventually("it is listed", () => idOf(page)), id, "the same member");
  await page.goto("about:blank");
  for (const other of rest) {
    await eventually("its cursor and its name are gone", async () => !Object.values(await peopleByNode(other.page)).flat().includes(name)
      && !(await drawn(other.page)).some((cursor) => cursor.name === name), { within_ms: GRACE_MS + 5_000 });
  }
  await enterDemo(page, cluster, node, name);
}));

// ---- the drop-in tag ----------------------------------------------------------------------------

/** Somebody's page, with one tag of ours. */
const notes = (name, url) => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>The harbour's log</title><link rel="icon" href="data:,">
<style>body{font:17px/1.6 serif;max-width:640px;margin:20px auto}</style></head><body><main><h1>The harbour's log</h1>
${Array.from({ length: 6 }, (_, n) => `<p id="p${n}">Two boats came in with the tide, and one of them went out again before anybody had asked it where from. The harbour master wrote both down.</p>`).join("\n")}
</main><script src="${url}" data-room="notes" data-name="${name}"></script></body></html>`;

/** The address of the page for one who comes in through `node`. */
async function notesAt(t, cluster) {
  const pages = [...ENGINES, { name: "Chromium", node: "n3" }].map(({ name, node }) => [`/${name}`, notes(name, cluster.url(node, "/cursormesh.js"))]);
  const at = await site(t, { url: () => "" }, Object.fromEntries(pages));
  return (name) => at(`/${name}`);
}

async function enterNotes(page, address) {
  await page.goto(address);
  await eventually("the page is in its room", () => page.evaluate(() => document.querySelector("script[data-room]").cursormesh?.room.joined), SLOW);
  await page.evaluate(() => {
    window.room = document.querySelector("script[data-room]").cursormesh.room;
    window.waves = [];
    window.left = [];
    room.events.on("wave", ({ member, data }) => waves.push([member?.id, data]));
    room.presence.on("left", ({ member }) => left.push(member.id));
  });
}

const me = (page) => page.evaluate(() => room.joined && { id: room.me.member.id, node: room.me.member.node });

test("a page with the drop-in tag", { timeout: 300_000 }, async (t) => {
  let at;
  await inEngines(t, {
    beside: async (chromium, cluster) => {
      at = await notesAt(t, cluster);
      const page = await newPage(chromium);
      await enterNotes(page, at("Chromium"));
      return page;
    },
    enter: (page, cluster, node, name) => enterNotes(page, at(name)),
  }, async (t, { name, node, page, others: rest, visits, cluster }) => {
    for (const { page } of visits) await eventually("everyone has a face", async () => (await faces(page)).length === visits.length);
    const id = (await me(page)).id;

    const point = async (from, paragraph, to) => {
      await moveTo(from.page, await middle(from.page, paragraph));
      for (const other of to) await sees(other.page, from.name, await middle(other.page, paragraph));
    };
    await point({ name, page }, "#p1", rest);
    for (const [index, other] of rest.entries()) await point(other, `#p${2 + index}`, visits.filter((visit) => visit !== other));
    await screenshot(page, `engines-dropin-${name}`);

    await page.evaluate((name) => room.events.send("wave", { from: name }), name);
    for (const { page } of visits) {
      await eventually("the event is heard", async () => {
        assert.deepEqual(await page.evaluate((id) => waves.filter(([sender]) => sender === id), id), [[id, { from: name }]]);
        return true;
      });
    }

    const killed_at = performance.now();
    const left = () => RECOVERED_WITHIN_MS - (performance.now() - killed_at);
    await cluster.kill(node);
    const now = await eventually("it is on another node", async () => {
      const now = await me(page);
      return now && now.node !== node && now;
    }, { within_ms: left() });
    assert.equal(now.id, id, "the same member");
    await moveTo(page, await middle(page, "#p4"));
    for (const other of rest) assert.equal(await sees(other.page, name, await middle(other.page, "#p4"), { within_ms: left() }), id);
    t.diagnostic(`node killed: seen by all, from another one, after ${Math.round(performance.now() - killed_at)} ms`);
    for (const other of rest) assert.ok(!(await other.page.evaluate(() => window.left)).includes(id), `${other.name} was told of no leave`);
    await point(rest[0], "#p5", visits.filter((visit) => visit !== rest[0]));
    await cluster.start(node);
    await cluster.whole();

    await page.evaluate(() => room.leave());
    for (const other of rest) {
      await eventually("the leave is told", async () => (await other.page.evaluate(() => window.left)).includes(id));
      assert.ok(!(await drawn(other.page)).some((cursor) => cursor.name === name));
    }
    await enterNotes(page, at(name));
  });
});

// ---- the tutorial's page and the dashboard --------------------------------------------------------

async function enterRaw(page, cluster, node) {
  await page.goto(cluster.url(node, "/tutorial?room=engines"));
  await eventually("the tutorial's page is connected", () => page.evaluate(() => document.getElementById("state").textContent.startsWith("Connected")), SLOW);
}

test("the tutorial's page, and the dashboard", { timeout: 240_000 }, (t) => inEngines(t, { enter: enterRaw, beside: besideDemo }, async (t, { name, node, page, others: rest, visits, cluster }) => {
  const place = { x: 430, y: 290 };
  await moveTo(page, place);
  // It draws its own cursor too, from the echo.
  const senders = await Promise.all(visits.map(({ page }) => showsOne(page, place)));
  assert.equal(new Set(senders).size, 1, "the same sender everywhere");
  for (const [index, other] of rest.entries()) {
    const there = { x: 250 + 120 * index, y: 350 + 30 * index };
    await moveTo(other.page, there);
    await showsOne(page, there);
  }
  await screenshot(page, `engines-tutorial-${name}`);

  await cluster.kill(node);
  await eventually("it says that it does not come back", () => page.evaluate(() => /connection is gone/.test(document.getElementById("state").textContent)));
  for (const other of rest) await eventually("its cursor is gone", async () => !(senders[0] in await cursors(other.page)));
  await cluster.start(node);
  await cluster.whole();

  await page.goto(cluster.url(node, "/dashboard"));
  await eventually("the dashboard shows three nodes and three links", async () => {
    const { nodes, links, drawn_links } = await shown(page);
    assert.deepEqual(Object.keys(nodes).sort(), cluster.names);
    assert.deepEqual(Object.values(links).map(([, state]) => state), ["up", "up", "up"]);
    return Object.keys(drawn_links).length === 3;
  }, SLOW);
  await screenshot(page, `engines-dashboard-${name}`);
  assert.deepEqual(await page.errors, []);
  await enterRaw(page, cluster, node);
}));
