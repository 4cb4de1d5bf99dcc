// One script tag: cursors and faces on any page, and on pages that make it hard.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { browser, screenshot } from "./harness/browser.mjs";
import { withNode } from "./harness/cluster.mjs";
import { cursorAt, drawn, faces, middle, site, visitor } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A page of somebody who knows nothing of us, and one tag. */
const page = (attributes = `data-room="auto"`, tag = "") => `<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>The lighthouse keeper's notes</title><link rel="icon" href="data:,"></head><body ${tag}><main><h1 id="title">The lighthouse keeper's notes</h1>
${Array.from({ length: 8 }, (_, n) => `<p id="p${n}">The lamp is lit at dusk and put out at dawn, and in between there is the sea, which is never the same for as long as it takes to say so. Ships pass; some of them answer. In the morning the glass is cleaned and the book is written.</p>`).join("\n")}
</main><script src="NODE/cursormesh.js" ${attributes}></script></body></html>`;
const style = `<style>body{font:17px/1.6 Georgia,serif;max-width:640px;margin:40px auto;padding:0 20px}@media(prefers-color-scheme:dark){body{background:#14161a;color:#ddd}}</style></head>`;
const styled = (attributes) => page(attributes).replace("</head>", style);

const joined = (page) => eventually("the page is in its room", () => page.evaluate(() => document.querySelector("script[data-room]").cursormesh?.room.joined));
const room = (page) => page.evaluate(() => document.querySelector("script[data-room]").cursormesh.room.name);
const noErrors = (...pages) => assert.deepEqual(pages.flatMap(({ errors }) => errors), []);

async function open(browser, url, options) {
  const opened = await visitor(browser, url, options);
  await joined(opened);
  return opened;
}

async function point(page, other, selector) {
  const { x, y } = await middle(page, selector);
  await page.mouse.move(x - 5, y - 5);
  await page.mouse.move(x, y);
  const there = await middle(other, selector);
  await cursorAt(other, there.x, there.y, 1.5);
}

test("one tag draws cursors and faces, the same place on every screen", { timeout: 150_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": styled() });
  const one = await browser(t);
  const desk = await open(one, at("/"), { viewport: { width: 1300, height: 800 } });
  const phone = await open(one, at("/?from=mail#p2"), { viewport: { width: 390, height: 800 }, deviceScaleFactor: 3 });
  assert.equal(await room(desk), at("/"));
  await point(desk, phone, "#p1");
  await point(phone, desk, "#p3");
  for (const page of [desk, phone]) await eventually("two faces", async () => { assert.equal((await faces(page)).length, 2); return true; });
  const [own] = await faces(desk);
  assert.match(own, /^[A-Z][a-z]+ [A-Z][a-z]+ \(you\)$/);
  assert.equal((await drawn(phone))[0].name, own.replace(" (you)", ""));

  // Another tab and a reload are the same person.
  const tab = await desk.context().newPage();
  await tab.goto(at("/"));
  await joined(tab);
  await eventually("three members, two people", async () => (await phone.evaluate(() => document.querySelector("script").cursormesh.room.count)) === 3 && (await faces(phone)).length === 2);
  await tab.reload();
  await joined(tab);
  assert.equal((await faces(tab))[0], own);
  noErrors(desk, phone);
}));

test("what its attributes say", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, {
    "/named": page(`data-room="lobby" data-name="Ada" data-color="217" data-user="u-ada" data-avatars="top-left" data-labels="off" data-announce="off" data-token="abc"`),
    "/bare": page(`data-room="lobby" data-name="Ben" data-avatars="off" data-color="no"`),
    "/auto": page(),
  });
  const one = await browser(t);
  const ada = await open(one, at("/named"));
  const ben = await open(one, at("/bare"));
  await eventually("Ben sees Ada", () => ben.evaluate(() => {
    const [other] = document.querySelector("script").cursormesh.room.others;
    return other?.user.name === "Ada" && other.user.id === "u-ada" && other.user.color === 217;
  }));
  const hosts = (page) => page.evaluate(() => [...document.querySelectorAll("[data-cursormesh]")].map((host) => host.dataset.cursormesh + (host.dataset.corner ?? "")).sort());
  assert.deepEqual(await hosts(ada), ["avatarstop-left", "cursors"]);
  assert.deepEqual(await hosts(ben), ["announcements", "cursors"]);
  await ben.mouse.move(300, 300);
  await eventually("a cursor without a label", async () => (await drawn(ada))[0]?.name === "");

  // An application that changes its address without a load changes the room.
  const auto = await open(one, at("/auto"));
  const told = auto.evaluate(() => new Promise((resolve) => document.addEventListener("cursormesh", ({ detail }) => resolve(detail.room.name))));
  await auto.evaluate(() => history.pushState({}, "", "/another"));
  assert.equal(await told, at("/another"));
  await joined(auto);
  assert.deepEqual(await hosts(auto), ["announcements", "avatarsbottom-right", "cursors"]);
  noErrors(ada, ben, auto);
}));

test("a page with a strict policy", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const headers = { "content-security-policy": "default-src 'none'; script-src NODE; connect-src NODE ws:; require-trusted-types-for 'script'; img-src data:" };
  const at = await site(t, node, { "/": { html: page(), headers } });
  const one = await browser(t);
  const ada = await open(one, at("/"));
  const ben = await open(one, at("/"));
  await point(ada, ben, "#p1");
  const look = await ben.evaluate(() => {
    const label = document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".label");
    const face = document.querySelector("[data-cursormesh=avatars]").shadowRoot.querySelector(".face");
    return [getComputedStyle(label).borderRadius, getComputedStyle(face).borderRadius, getComputedStyle(label).backgroundColor !== "rgba(0, 0, 0, 0)"];
  });
  assert.deepEqual(look, ["5px 12px 12px", "50%", true], "it has its styles");
  noErrors(ada, ben);
}));

test("in frames, also one that may store nothing", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, {
    "/inner": page(`data-room="frames"`),
    "/outer": `<!doctype html><html lang="en"><title>Frames</title><link rel="icon" href="data:,"><iframe id="one" title="One" src="/inner" width="500" height="400"></iframe>
      <iframe id="two" title="Two" src="/inner" sandbox="allow-scripts" width="400" height="400"></iframe></html>`,
  });
  const one = await browser(t);
  const outer = await visitor(one, at("/outer"));
  const frame = async (selector) => (await outer.waitForSelector(selector)).contentFrame();
  const [open, closed] = [await frame("#one"), await frame("#two")];
  for (const inside of [open, closed]) await joined(inside);
  assert.equal(await closed.evaluate(() => { try { return String(localStorage); } catch (error) { return error.name; } }), "SecurityError");
  const target = await open.waitForSelector("#p1");
  const box = await target.boundingBox();
  await outer.mouse.move(box.x + box.width / 2 - 4, box.y + box.height / 2);
  await outer.mouse.move(box.x + box.width / 2, box.y + box.height / 2);
  const { x, y } = await middle(closed, "#p1");
  await cursorAt(closed, x, y, 1.5);
  noErrors(outer);
}));

test("axe finds nothing, in light and in dark; and so it looks", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": styled() });
  const one = await browser(t);
  const names = ["Ada Lovelace", "Grace", "أحمد بن محمد", "🦊 Fox", "A person with a name that is really far too long to be shown"];
  const others = [];
  for (const [n, name] of names.entries()) {
    const other = await open(one, at("/"), { viewport: { width: 1200, height: 800 } });
    await other.evaluate(([name, n]) => {
      const { room } = document.querySelector("script").cursormesh;
      room.me.setUser({ name, color: n * 73 + 10 });
    }, [name, n]);
    await other.mouse.move(400 + n * 80, 150 + n * 90);
    await other.mouse.move(430 + n * 80, 170 + n * 90);
    others.push(other);
  }
  await others[1].evaluate(() => {
    const { me } = document.querySelector("script").cursormesh.room;
    me.set({ cursormesh: { ...me.state.cursormesh, chat: "I think this sentence could go, what do you say?" } });
  });
  await others[2].evaluate(() => {
    const { me } = document.querySelector("script").cursormesh.room;
    me.set({ cursormesh: { ...me.state.cursormesh, idle: true } });
  });
  const looks = {
    light: {}, dark: { colorScheme: "dark" }, forced: { forcedColors: "active" },
    phone: { viewport: { width: 390, height: 780 }, hasTouch: true, isMobile: true, deviceScaleFactor: 3 },
  };
  for (const [look, options] of Object.entries(looks)) {
    const page = await open(one, at("/"), options);
    await eventually("all are drawn", async () => { const all = await drawn(page); assert.equal(all.length, names.length); return all.every(({ name }) => name !== ""); });
    await others[0].evaluate(() => document.querySelector("script").cursormesh.room.events.send("cursormesh.reaction", { emoji: "♥", x: 0.3, y: 0.1 }));
    await eventually("the reaction is there", () => page.evaluate(() => document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".spark")));
    await page.evaluate(AXE);
    const { violations, incomplete } = await page.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), [], look);
    const unsure = incomplete.filter(({ nodes }) => nodes.some(({ target }) => target.some((one) => String(one).includes("cursormesh"))));
    t.diagnostic(`${look}: axe could not decide ${JSON.stringify(unsure.map(({ id, nodes }) => [id, nodes.length]))}`);
    await screenshot(page, `dropin-${look}`);
    noErrors(page);
    await page.evaluate(() => document.querySelector("script").cursormesh.client.close());
    await page.context().close();
  }
  noErrors(...others);
}));
