// The page at /dashboard, in front of nodes that only say what nodes say.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { browser, screenshot } from "./harness/browser.mjs";
import { eventuallyShown, openDashboard, shown } from "./harness/dashboard.mjs";
import { eventually } from "./harness/eventually.mjs";
import { FakeMesh, nodes } from "./harness/fake-mesh.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const FIVE_REGIONS = ["ap", "eu", "sa", "us-east", "us-west"];
const LIMIT = { timeout: 120_000 };

/** Ten nodes in five regions, one link cut, one node hidden: what the pictures in the docs show. */
async function eventful(t) {
  const mesh = await FakeMesh.open(t, nodes(10, FIVE_REGIONS));
  mesh.node("n7").hidden_because = "its state is older than 5 s";
  return mesh;
}

test("three nodes: everything that they tell is in the tables and in the picture", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3, ["eu", "us"]));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  const seen = await eventuallyShown(page, "all three answer and traffic is measured", ({ state, links }) =>
    state === "Live from 3 of 3 nodes" && Object.values(links).every(([, , , , traffic]) => /B\/s/.test(traffic)));
  assert.deepEqual(Object.keys(seen.nodes), ["n1", "n2", "n3"]);
  assert.deepEqual(seen.nodes.n2, ["n2", "eu", "alive", "3", "2", "itself"]);
  assert.deepEqual(Object.keys(seen.links), ["n1|n2", "n1|n3", "n2|n3"]);
  for (const [, state, rtt, loss, , told] of Object.values(seen.links)) {
    assert.equal(state, "up");
    assert.match(rtt, /^[\d.]+ ms$/);
    assert.match(loss, /%/);
    assert.match(told, /^n\d, n\d$/);
  }
  assert.deepEqual(seen.drawn_nodes, { "node:n1": "alive", "node:n2": "alive", "node:n3": "alive" });
  assert.deepEqual(seen.totals, { "Nodes alive": "3", "Links up": "3", Detours: "0", "Hidden nodes": "0", Members: "9", Rooms: "2" });
  const rooms = await page.locator("#rooms li").allTextContents();
  assert.deepEqual(rooms, ["lobby7 members", "a/b & <i>c</i>2 members"]);
  const href = await page.locator("#rooms a").nth(1).evaluate(({ href }) => href);
  assert.equal(new URL(href).pathname, "/");
  assert.equal(new URL(href).searchParams.get("room"), "a/b & <i>c</i>");
  assert.deepEqual(page.errors, []);
});

test("cut by a button, by way of another node, healed; then a node is stopped, after a second question", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await eventuallyShown(page, "all answer", ({ state }) => state === "Live from 3 of 3 nodes");
  await page.getByRole("button", { name: "n1–n3", exact: true }).click();
  assert.equal(await page.locator("#chosen-title").textContent(), "Link n1–n3");
  await page.getByRole("button", { name: "Cut this link" }).click();
  const cut = await eventuallyShown(page, "n1 and n3 reach each other by way of n2", ({ links, detours }) =>
    links["n1|n3"][1] === "cut on purpose; by way of n2" && detours.length === 1);
  assert.equal(cut.drawn_links["link:n1|n3"], "cut");
  assert.ok(cut.log.includes("link n1–n3 is cut on purpose"), cut.log.join("; "));
  assert.ok(cut.log.some((line) => /reach.* by way of n2/.test(line)), cut.log.join("; "));
  await eventually("it is announced", async () => (await page.locator("#news").textContent()) !== "");

  await page.getByRole("button", { name: "Heal this link" }).click();
  await eventuallyShown(page, "n1 and n3 are linked again", ({ links, detours, log }) =>
    links["n1|n3"][1] === "up" && detours.length === 0 && log.some((line) => /directly again/.test(line)));

  await page.locator("#nodes").getByRole("button", { name: "n3" }).click();
  await page.getByRole("button", { name: "Stop this node" }).click();
  await page.getByRole("button", { name: "Leave it running" }).click();
  assert.deepEqual(mesh.orders, ["n1 cut n3", "n1 heal n3"]);
  await page.getByRole("button", { name: "Stop this node" }).click();
  await page.getByRole("button", { name: "Yes, stop n3 now" }).click();
  await eventuallyShown(page, "n3 is down", ({ nodes, links }) => nodes.n3[2].startsWith("down") && Object.keys(links).join() === "n1|n2");
  assert.deepEqual(mesh.orders, ["n1 cut n3", "n1 heal n3", "n3 stop"]);
  mesh.node("n3").state = "gone";
  await eventuallyShown(page, "n3 is gone", ({ nodes, drawn_nodes }) => !nodes.n3 && !drawn_nodes["node:n3"]);
  assert.deepEqual(page.errors, []);
});

test("a link between two others is cut from here, and one button heals all", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(4));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await page.getByRole("button", { name: "n2–n3", exact: true }).click();
  await page.getByRole("button", { name: "Cut this link" }).click();
  mesh.cut("n4", "n1");
  await eventuallyShown(page, "both cuts are shown", ({ links }) => /^cut/.test(links["n2|n3"][1]) && /^cut/.test(links["n1|n4"][1]));
  await page.getByRole("button", { name: "Heal all" }).click();
  await eventuallyShown(page, "all are up", ({ totals }) => totals["Links up"] === "6");
  assert.deepEqual([...mesh.orders].sort(), ["n2 cut n3", "n2 heal", "n4 heal"]);
  await eventually("nothing is left to heal", async () => !(await page.locator("#heal-all").isVisible()));
});

test("the picture is one stop for Tab; arrows, Enter and the buttons do the rest", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await eventuallyShown(page, "all links are drawn", ({ drawn_links }) => Object.keys(drawn_links).length === 3);
  const focused = () => page.evaluate(() => document.activeElement.getAttribute("data-part") ?? document.activeElement.textContent);
  await page.locator("#demo").focus();
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "node:n1");
  await page.keyboard.press("End");
  assert.equal(await focused(), "link:n2|n3");
  await page.keyboard.press("ArrowLeft");
  assert.equal(await focused(), "link:n1|n3");
  assert.match(await page.locator("#picture .tip").textContent(), /n1–n3: up.*ms, loss/);
  await page.keyboard.press("Enter");
  assert.equal(await page.locator("#chosen-title").textContent(), "Link n1–n3");
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Cut this link", "the next stop is what can be done to it");
  await page.keyboard.press("Enter");
  await eventuallyShown(page, "it is cut", ({ drawn_links }) => drawn_links["link:n1|n3"] === "cut");
  await page.keyboard.press("Shift+Tab");
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowUp");
  assert.equal(await focused(), "link:n2|n3", "arrows go round");
});

test("a pointer chooses, too", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await eventuallyShown(page, "all are drawn", ({ drawn_links }) => Object.keys(drawn_links).length === 3);
  const place = await page.locator('#picture [data-part="link:n1|n3"] .hit').evaluate((path) => {
    const at = path.getPointAtLength(path.getTotalLength() * 0.3);
    const { x, y } = new DOMPoint(at.x, at.y).matrixTransform(path.getScreenCTM());
    return { x, y };
  });
  await page.mouse.move(place.x, place.y);
  await eventually("the figures are shown", async () => /n1–n3/.test(await page.locator("#picture .tip").textContent()));
  await page.mouse.click(place.x, place.y);
  assert.equal(await page.locator("#chosen-title").textContent(), "Link n1–n3");
  await page.locator('#picture [data-part="node:n2"] .body').click();
  assert.equal(await page.locator("#chosen-title").textContent(), "Node n2");
});

test("without --dev nothing can be done, one sentence says how to, and only the own node is asked", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3), { dev: false });
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  const asked = new Set();
  page.on("request", (request) => asked.add(new URL(request.url()).host));
  await page.getByRole("button", { name: "n1–n3", exact: true }).click();
  const seen = await eventuallyShown(page, "it is live", ({ state }) => state === "Live from n1");
  assert.equal(seen.links["n2|n3"][1], "up", "as n1 tells");
  assert.equal(seen.links["n2|n3"][5], "others");
  for (const name of ["Cut this link", "Heal this link", "Heal all", "Stop this node"]) {
    assert.equal(await page.getByRole("button", { name }).count(), 0, name);
  }
  assert.match(await page.locator("#dev-hint").textContent(), /cursormesh serve --dev/);
  mesh.node("n2").members = 9;
  await eventuallyShown(page, "another answer came", ({ nodes }) => nodes.n2[3] === "9");
  assert.deepEqual([...asked], [new URL(mesh.url("n1")).host]);
});

test("a page in somebody's frame has no buttons", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await (await browser(t)).newPage();
  await page.goto(mesh.url("n1", "/api/mesh"));
  await page.evaluate((url) => {
    const frame = document.createElement("iframe");
    frame.src = url;
    frame.width = frame.height = 800;
    document.body.append(frame);
  }, mesh.url("n1"));
  const inside = page.frameLocator("iframe");
  await inside.getByRole("button", { name: "n1–n3", exact: true }).click();
  assert.match(await inside.locator("#dev-hint").textContent(), /serve --dev/);
  assert.equal(await inside.getByRole("button", { name: "Cut this link" }).count(), 0);
});

test("a node that does not answer is named with the time; the others go on; it comes back", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await eventuallyShown(page, "all answer", ({ state }) => state === "Live from 3 of 3 nodes");
  mesh.node("n1").mute = true;
  await eventuallyShown(page, "the silence is told", ({ state }) => /^n1 does not answer since \d+ s; shown is what n2 and n3 tell$/.test(state), { within_ms: 15_000 });
  mesh.node("n2").mute = true;
  mesh.node("n3").mute = true;
  await eventuallyShown(page, "nobody answers", ({ state }) => /^n1 does not answer since [3-9] s$|^n1 does not answer since \d\d s$/.test(state), { within_ms: 15_000 });
  assert.equal(await page.locator("body").getAttribute("data-fresh"), "false");
  assert.equal(Object.keys((await shown(page)).nodes).length, 3, "what was last known stays");
  for (const name of ["n1", "n2", "n3"]) mesh.node(name).mute = false;
  await eventuallyShown(page, "all answer again", ({ state }) => state === "Live from 3 of 3 nodes", { within_ms: 15_000 });
  assert.deepEqual(page.errors, []);
});

test("a node that refuses says why", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await page.route("**/api/dev/**", (route) => route.fulfill({ status: 403, contentType: "application/json", body: '{"error":"Only from <b>loopback</b>."}' }));
  await page.getByRole("button", { name: "n1–n3", exact: true }).click();
  await page.getByRole("button", { name: "Cut this link" }).click();
  await eventually("the reason is shown", async () => (await page.locator("#answer").textContent()) === "n1 refused (403): Only from <b>loopback</b>.");
});

test("hidden, suspected, many: ten nodes in five regions, thirty nodes, one node", LIMIT, async (t) => {
  const chromium = await browser(t);
  const ten = await eventful(t);
  ten.node("n4").state = "suspect";
  ten.node("n4").mute = true;
  const page = await openDashboard(chromium, ten.url("n1"));
  const seen = await eventuallyShown(page, "the hidden and the suspected are shown", ({ nodes, drawn_nodes, state }) =>
    /hidden from .*older than 5 s/.test(nodes.n7[2]) && nodes.n4[2] === "suspect" && drawn_nodes["node:n4"] === "suspect" && state === "Live from 9 of 10 nodes", { within_ms: 20_000 });
  assert.equal(seen.totals["Hidden nodes"], "1");
  assert.equal(await page.locator('#picture [data-part="node:n7"]').getAttribute("data-hidden"), "true");
  assert.equal(await page.locator("#picture .regions text").count(), 5);
  await page.context().close();

  const thirty = await FakeMesh.open(t, nodes(30, FIVE_REGIONS), { dev: false });
  const many = await openDashboard(chromium, thirty.url("n1"));
  await eventuallyShown(many, "all links are drawn", ({ drawn_links }) => Object.keys(drawn_links).length === 435, { within_ms: 30_000 });
  assert.equal(await many.locator("#picture .labels text").count(), 0);
  await many.context().close();

  const one = await FakeMesh.open(t, nodes(1));
  const alone = await openDashboard(chromium, one.url("n1"));
  const lonely = await shown(alone);
  assert.deepEqual(Object.keys(lonely.nodes), ["n1"]);
  assert.equal(await alone.locator("#no-links").isVisible(), true);
});

test("axe finds nothing, in light, in dark and on a phone; nothing sticks out; so it looks", LIMIT, async (t) => {
  const chromium = await browser(t);
  const mesh = await eventful(t);
  mesh.cut("n1", "n4");
  const looks = {
    light: { colorScheme: "light" }, dark: { colorScheme: "dark" },
    phone: { colorScheme: "light", viewport: { width: 360, height: 740 }, hasTouch: true, isMobile: true },
  };
  for (const [look, options] of Object.entries(looks)) {
    const page = await openDashboard(chromium, mesh.url("n1"), options);
    await eventuallyShown(page, "the detour is drawn and all answer", ({ detours, state, links }) =>
      detours.length === 1 && state === "Live from 10 of 10 nodes" && /B\/s/.test(links["n1|n2"][4]), { within_ms: 20_000 });
    await page.getByRole("button", { name: "n1–n4", exact: true }).click();
    // Not by a script element: the page's own rules would keep that out.
    await page.evaluate(AXE);
    const { violations, incomplete } = await page.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ target }) => target)]), [], look);
    t.diagnostic(`${look}: axe could not decide ${JSON.stringify(incomplete.map(({ id, nodes }) => [id, nodes.length]))}`);
    assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `${look}: nothing sticks out of the screen`);
    await page.evaluate(() => { document.activeElement.blur(); scrollTo(0, 0); });
    await screenshot(page, `dashboard-${look}`);
    assert.deepEqual(page.errors, [], look);
    await page.context().close();
  }
});

test("who wants less motion gets none", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, nodes(3));
  const page = await openDashboard(await browser(t), mesh.url("n1"), { reducedMotion: "reduce" });
  mesh.cut("n1", "n3");
  await eventuallyShown(page, "a detour is drawn, and traffic is measured", ({ detours, links }) => detours.length === 1 && /B\/s/.test(links["n1|n2"][4]));
  const moved = () => page.evaluate(() => [...document.querySelectorAll("#picture path")].map(({ style }) => style.strokeDashoffset).join(""));
  assert.equal(await moved(), "", "nothing was ever moved");
  assert.equal(await page.locator("#picture .dots:visible").count(), 0);
  assert.equal(await page.evaluate(() => document.getAnimations().length), 0);

  await page.emulateMedia({ reducedMotion: "no-preference" });
  await eventually("it moves for who did not ask for less", async () => (await moved()) !== "");
});

test("hostile names are text", LIMIT, async (t) => {
  const mesh = await FakeMesh.open(t, [{ name: "n1" }, { name: "<img src=x onerror=alert(1)>", region: "\u202e<b>eu", members: 1 }]);
  mesh.node("<img src=x onerror=alert(1)>").hidden_because = "<script>alert(1)</script>".repeat(50);
  const page = await openDashboard(await browser(t), mesh.url("n1"));
  await eventuallyShown(page, "both are listed", ({ nodes }) => "<img src=x onerror=alert(1)>" in nodes);
  assert.equal(await page.locator("img, #main script, #main b").count(), 0);
  assert.equal(await page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false);
  assert.deepEqual(page.errors, []);
});
