// Cursors, faces and helpers as pages draw them: the same place on screens that differ, and care for who
// looks at them.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { test } from "node:test";
import { browser } from "./harness/browser.mjs";
import { withNode } from "./harness/cluster.mjs";
import { cursorAt, drawn, faces, middle, site, visitor } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";

const AXE = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");

/** A page of an application: `body` in it, and a function that enters a room. */
const application = (body, style = "") => `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>A page with cursors</title>
<style>*{box-sizing:border-box}body{margin:0;font:16px/1.5 sans-serif}${style}</style><script src="NODE/cursormesh.js"></script><script>
  window.enter = async (name, selector, options = {}, room = "lobby") => {
    window.client = cursormesh.connect();
    window.room = client.room(room, { user: { name } });
    window.ui = await import("NODE/cursormesh-ui.mjs");
    window.before = document.documentElement.outerHTML;
    if (selector) window.overlay = ui.render(window.room, document.querySelector(selector), options);
  };
</script></head><body>${body}</body></html>`;

/** Opens a page in a window of its own and enters. */
async function open(browser, url, name, selector, { window = { width: 1000, height: 700 }, options = {}, more = {}, room } = {}) {
  const page = await visitor(browser, url, { viewport: window, ...more });
  await page.evaluate(([name, selector, options, room]) => enter(name, selector, options, room), [name, selector, options, room]);
  await eventually("the page is in the room", () => page.evaluate(() => room.joined));
  return page;
}

/** Waits until each page has `count` others; who was there before and closed the page is away for a while. */
async function meet(count, ...pages) {
  for (const page of pages) await eventually("all are there", () => page.evaluate((count) => room.others.filter(({ away }) => !away).length === count, count));
}

/** Points at the middle of an element on one page, and finds the cursor there on the other. */
async function agree(one, other, selector, within_px = 1.5) {
  for (const page of [one, other]) await page.evaluate((selector) => document.querySelector(selector).scrollIntoView({ block: "nearest", inline: "nearest" }), selector);
  const from = await middle(one, selector);
  await one.mouse.move(from.x - 7, from.y - 5);
  await one.mouse.move(from.x, from.y);
  const { x, y } = await middle(other, selector);
  await cursorAt(other, x, y, within_px);
  const hit = await other.evaluate(([x, y, selector]) => document.elementFromPoint(x, y)?.closest(selector) !== null, [x, y, selector]);
  assert.ok(hit, `${selector} is under the cursor`);
}

/** Goes for good: a page that only closes may come back within seconds. */
async function leave(page) {
  await page.evaluate(() => client.close());
  await page.context().close();
}

const noErrors = (...pages) => assert.deepEqual(pages.flatMap(({ errors }) => errors), []);

test("windows of different sizes agree on what is under a cursor", { timeout: 150_000 }, (t) => withNode(async (node) => {
  const board = `<div id="board"><div id="sheet"><div id="a" class="spot"></div><div id="b" class="spot"></div></div></div>`;
  const style = `#board{position:absolute;inset:10% 20%;border:7px solid;overflow:auto}#sheet{position:relative;width:200%;height:300%}
    .spot{position:absolute;width:4%;height:3%;background:red}#a{left:10%;top:8%}#b{left:80%;top:70%}`;
  const column = `<h1>Notes</h1><div id="c" data-cursor-anchor="c"><p id="text">${"Words that break differently in narrower windows. ".repeat(20)}</p></div>
    <div id="d" data-cursor-anchor="d"><span id="dot"></span></div><div class="tall"></div>`;
  const narrow = `body{max-width:600px;margin:0 auto}#dot{display:block;width:4%;height:20px;margin-left:60%;background:red}.tall{height:2000px}`;
  const at = await site(t, node, { "/board": application(board, style), "/column": application(column, narrow) });
  const one = await browser(t);

  const wide = await open(one, at("/board"), "Ada", "#board", { window: { width: 1300, height: 900 }, room: "board" });
  const small = await open(one, at("/board"), "Ben", "#board", { window: { width: 600, height: 500 }, room: "board" });
  await meet(1, wide, small);
  await agree(wide, small, "#a", 3);
  await agree(small, wide, "#a", 3);
  // The small window scrolls; the wide one's cursor stays with the content.
  await wide.mouse.move(3, 3);
  await eventually("no cursor is left", async () => (await drawn(small)).length === 0);
  for (const page of [wide, small]) await page.evaluate(() => document.querySelector("#board").scrollTo(1e4, 1e4));
  await eventually("scrolled", () => small.evaluate(() => document.querySelector("#board").scrollLeft > 100));
  await agree(wide, small, "#b", 3);
  await wide.evaluate(() => document.querySelector("#board").scrollBy(0, -40));
  const moved = await wide.evaluate(() => 40 / document.querySelector("#board").scrollHeight);
  const { x, y } = await middle(small, "#b");
  const down = await small.evaluate((share) => share * document.querySelector("#board").scrollHeight, moved);
  await cursorAt(small, x, y - down, 3);
  noErrors(wide, small);

  const desk = await open(one, at("/column"), "Ada", "html", { window: { width: 1400, height: 800 }, room: "column" });
  const phone = await open(one, at("/column"), "Ben", "html", { window: { width: 380, height: 700 }, room: "column" });
  await meet(1, desk, phone);
  await phone.evaluate(() => scrollTo(0, 600));
  await agree(desk, phone, "#dot");
  await phone.evaluate(() => scrollTo(0, 0));
  await agree(phone, desk, "#text");
  await agree(desk, phone, "#text");
  noErrors(desk, phone);
}));

test("a canvas that pans and zooms says itself where positions are", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<canvas id="canvas" width="500" height="400"></canvas>`, "#canvas{margin:30px 0 0 40px;border:5px solid}") });
  const one = await browser(t);
  const pages = [];
  for (const [name, view] of [["Ada", { scale: 1, x: 0, y: 0 }], ["Ben", { scale: 2.5, x: -120, y: 40 }]]) {
    const page = await open(one, at("/"), name, null);
    await page.evaluate((view) => {
      window.view = view;
      window.overlay = ui.render(room, document.querySelector("#canvas"), {
        coordinates: {
          toScreen: ({ x, y }) => ({ x: x * window.view.scale + window.view.x, y: y * window.view.scale + window.view.y }),
          toRoom: ({ x, y }) => ({ x: (x - window.view.x) / window.view.scale, y: (y - window.view.y) / window.view.scale }),
        },
      });
    }, view);
    pages.push(page);
  }
  const [ada, ben] = pages;
  await meet(1, ada, ben);
  // The canvas begins at 45, 35.
  await ada.mouse.move(45 + 100, 35 + 60);
  await cursorAt(ben, 45 + 100 * 2.5 - 120, 35 + 60 * 2.5 + 40);
  await ben.evaluate(() => {
    window.view = { scale: 1, x: 10, y: 20 };
    overlay.update();
  });
  await cursorAt(ben, 45 + 110, 35 + 80);
  // A view that pans under a pointer that stands still moves it in the room.
  await ben.mouse.move(45 + 200, 35 + 100);
  await cursorAt(ada, 45 + 190, 35 + 80);
  await ben.evaluate(() => {
    window.view = { scale: 1, x: 0, y: 0 };
    overlay.update();
  });
  await cursorAt(ada, 45 + 200, 35 + 100);
  noErrors(ada, ben);
}));

test("containers that are scaled, turned, zoomed, nested, right to left, or in a page that is", { timeout: 240_000 }, (t) => withNode(async (node) => {
  const body = `<div id="outer"><div id="board"><div id="sheet"><div id="spot"></div></div></div></div>`;
  const style = `#outer{padding:20px}#board{position:relative;width:400px;height:300px;border:6px solid;overflow:auto}
    #sheet{position:relative;width:700px;height:500px}#spot{position:absolute;left:200px;top:150px;width:20px;height:20px;background:red}`;
  const variants = {
    plain: "",
    scaled: "#outer{transform:scale(.5);transform-origin:0 0}",
    turned: "#outer{transform:translate(150px,80px) rotate(30deg) scale(.8)}",
    properties: "#outer{rotate:-20deg;scale:1.2 .9;translate:120px 100px}",
    zoomed: "#outer{zoom:1.5}",
    page_zoomed: "html{zoom:1.25}",
    body_zoomed: "body{zoom:.8}",
    body_transformed: "body{transform:scale(.7) translate(30px,40px);transform-origin:0 0}",
    html_transformed: "html{transform:translate(25px,35px)}",
    nested: "#outer{width:360px;height:280px;overflow:scroll;margin:40px}",
    right_to_left: "html{direction:rtl}",
    contained: "#outer{contain:strict;width:600px;height:500px;will-change:transform}",
    filtered: "body{filter:grayscale(1)}",
  };
  const at = await site(t, node, Object.fromEntries(Object.entries(variants).map(([name, more]) => [`/${name}`, application(body, style + more)])));
  const one = await browser(t);
  const plain = await open(one, at("/plain"), "Ada", "#board");
  for (const name of Object.keys(variants)) {
    await t.test(name, async () => {
      const other = await open(one, at(`/${name}`), "Ben", "#board");
      await meet(1, plain, other);
      await agree(other, plain, "#spot", 2);
      await agree(plain, other, "#spot", 2);
      // Right to left scrolls the other way.
      await other.evaluate(() => {
        document.querySelector("#board").scrollBy(getComputedStyle(document.body).direction === "rtl" ? -60 : 60, 50);
        document.querySelector("#outer").scrollBy(20, 10);
      });
      const { x, y } = await middle(other, "#spot");
      await cursorAt(other, x, y, 2);
      await agree(other, plain, "#spot", 2);
      noErrors(plain, other);
      await leave(other);
      await meet(0, plain);
    });
  }
  await t.test("a page that is pinched, on three times the pixels", async () => {
    const other = await open(one, at("/plain"), "Ben", "#board", { window: { width: 500, height: 700 }, more: { isMobile: true, hasTouch: true, deviceScaleFactor: 3 } });
    await meet(1, plain, other);
    const devtools = await other.context().newCDPSession(other);
    await devtools.send("Emulation.setPageScaleFactor", { pageScaleFactor: 2 });
    await eventually("pinched", () => other.evaluate(() => visualViewport.scale === 2));
    await agree(plain, other, "#spot", 2);
    noErrors(plain, other);
    await leave(other);
    await meet(0, plain);
  });
  // The page itself, right to left and wider than its window.
  await t.test("a wide page, right to left", async () => {
    const wide = application(`<div id="far"><div id="spot"></div></div>`, `html{direction:rtl}#far{position:relative;width:3000px;height:2000px}#spot{position:absolute;left:2100px;top:300px;width:20px;height:20px;background:red}`);
    const where = await site(t, node, { "/": wide, "/zoomed": wide.replace("html{", "html{zoom:1.5;") });
    const ada = await open(one, where("/"), "Ada", "html", { room: "rtl" });
    for (const path of ["/", "/zoomed"]) {
      const ben = await open(one, where(path), "Ben", "html", { room: "rtl", window: { width: 1500, height: 900 } });
      await meet(1, ada, ben);
      await ben.evaluate(() => scrollBy(-300, 100));
      await agree(ada, ben, "#spot", 2);
      await agree(ben, ada, "#spot", 2);
      noErrors(ada, ben);
      await leave(ben);
      await meet(0, ada);
    }
  });
}));

test("a cursor goes with the pointer, with its member, and where somebody hides it", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<div id="board"></div><iframe title="Other" srcdoc="x"></iframe>`, "#board{width:500px;height:400px;background:#eee}") });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "#board");
  const ben = await open(one, at("/"), "Ben", "#board");
  await meet(1, ada, ben);
  const gone = (page) => eventually("no cursor is drawn", async () => (await drawn(page)).length === 0);
  await ada.mouse.move(100, 100);
  await cursorAt(ben, 100, 100);
  await ada.mouse.move(700, 100);
  await gone(ben);
  await ada.mouse.move(200, 100);
  await cursorAt(ben, 200, 100);

  await ada.evaluate(() => { overlay.hideMine = true; });
  await gone(ben);
  await ada.mouse.move(250, 120);
  await ada.evaluate(() => { overlay.hideMine = false; });
  await cursorAt(ben, 250, 120);

  await ben.evaluate(() => { overlay.hideOthers = true; });
  await gone(ben);
  await ada.mouse.move(300, 130);
  await ben.evaluate(() => { overlay.hideOthers = false; });
  await cursorAt(ben, 300, 130);

  await ada.evaluate(() => dispatchEvent(new Event("blur")));
  await gone(ben);
  await ada.mouse.move(310, 130);
  await cursorAt(ben, 310, 130);
  await ada.evaluate(() => { window.idles = []; window.watch = ui.idle(room, { after_ms: 300 }); watch.on((idle) => idles.push(idle)); });
  await eventually("greyed", async () => (await drawn(ben))[0]?.classes.includes("dim"));
  await ada.mouse.move(320, 130);
  await eventually("somebody is there", async () => { assert.deepEqual((await ada.evaluate(() => idles)).slice(0, 2), [true, false]); return true; });
  await ada.evaluate(() => watch.stop());
  await eventually("no longer", async () => !(await drawn(ben))[0]?.classes.includes("dim"));
  await ada.evaluate(() => client.close());
  await gone(ben);
  noErrors(ada, ben);
}));

test("in a dialog over the page, and on an anchor that comes and goes", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const body = `<main><h1>Here</h1><p id="p">Words</p></main><dialog id="dialog"><div id="board"><p data-cursor-anchor="spot" id="spot">Spot</p><p id="rest">Rest</p></div></dialog>`;
  const at = await site(t, node, { "/": application(body, "#board{width:400px;height:300px}") });
  const one = await browser(t);
  const pages = [];
  for (const name of ["Ada", "Ben"]) {
    const page = await open(one, at("/"), name, null);
    await page.evaluate(() => {
      document.querySelector("#dialog").showModal();
      window.overlay = ui.render(room, document.querySelector("#board"));
    });
    pages.push(page);
  }
  const [ada, ben] = pages;
  await meet(1, ada, ben);
  await agree(ada, ben, "#rest");
  assert.ok(await ben.evaluate(() => document.querySelector("[data-cursormesh=cursors]").matches(":popover-open")), "above the dialog");
  await agree(ada, ben, "#spot");
  await ben.evaluate(() => { window.spot = document.querySelector("#spot"); spot.remove(); });
  await eventually("no cursor where its anchor is not", async () => (await drawn(ben)).length === 0);
  await ben.evaluate(() => document.querySelector("#board").prepend(spot));
  const { x, y } = await middle(ben, "#spot");
  await cursorAt(ben, x, y);
  await ben.evaluate(() => document.querySelector("#dialog").close());
  await eventually("not drawn while its container is not", () => ben.evaluate(() => document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".glass").hidden));
  noErrors(ada, ben);
}));

test("a finger is a ripple while it is down, and nothing after", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<div id="board"></div>`, "#board{width:100%;height:600px;background:#eee}") });
  const one = await browser(t);
  const phone = await open(one, at("/"), "Ada", "html", { more: { hasTouch: true } });
  const desk = await open(one, at("/"), "Ben", "html");
  await meet(1, phone, desk);
  await desk.evaluate(() => {
    window.rings = [];
    const root = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
    // Not frame by frame: a machine under load may have none while the finger is down.
    new MutationObserver(() => {
      for (const cursor of root.querySelectorAll(".cursor.touch:not(.waiting)")) {
        const [ring, arrow] = [cursor.querySelector(".ring"), cursor.querySelector(".arrow")].map((one) => getComputedStyle(one).display !== "none");
        window.rings.push({ ring, arrow, x: cursor.getBoundingClientRect().x });
      }
    }).observe(root, { subtree: true, childList: true, attributes: true });
  });
  await phone.touchscreen.tap(300, 200);
  const last = await eventually("a ring is seen", () => desk.evaluate(() => window.rings.findLast(({ x }) => x > 0)));
  assert.deepEqual(last, { ring: true, arrow: false, x: 300 });
  await eventually("and goes", async () => (await drawn(desk)).length === 0);
  noErrors(phone, desk);
}));

test("for who wants little motion cursors step, and nothing is animated", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<div id="board"></div>`, "#board{height:600px;background:#eee}") });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "html");
  const calm = await open(one, at("/"), "Ben", "html", { more: { reducedMotion: "reduce" } });
  const lively = await open(one, at("/"), "Cy", "html");
  await meet(2, ada, calm, lively);
  for (const page of [calm, lively]) {
    await page.evaluate(() => {
      window.places = new Set();
      const root = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
      const look = () => {
        const cursor = root.querySelector(".cursor:not(.waiting)");
        if (cursor) window.places.add(cursor.style.transform);
        requestAnimationFrame(look);
      };
      look();
    });
  }
  const start = Date.now();
  for (let x = 100; x <= 700; x += 10) {
    await ada.mouse.move(x, 200);
    await ada.waitForTimeout(10);
  }
  await cursorAt(calm, 700, 200);
  await cursorAt(lively, 700, 200);
  const [steps, places] = await Promise.all([calm, lively].map((page) => page.evaluate(() => window.places.size)));
  const steps_max = Math.ceil((Date.now() - start) / 250) + 1;
  assert.ok(steps >= 2 && steps <= steps_max, `${steps} steps, at most ${steps_max}`);
  assert.ok(places > 2 * steps, `${places} places while ${steps} steps`);
  await ada.evaluate(() => ui.reactions(room, overlay).send("🎉"));
  await eventually("the reaction is there", () => calm.evaluate(() => document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".emoji")?.textContent === "🎉"));
  assert.deepEqual(await calm.evaluate(() => document.getAnimations().map((one) => one.animationName ?? one.transitionProperty)), []);
  noErrors(ada, calm, lively);
}));

test("reactions, what people say, and following", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Long</h1><div class="tall"></div></main>`, ".tall{height:6000px}") });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "html");
  const ben = await open(one, at("/"), "Ben", "html", { window: { width: 700, height: 400 } });
  await meet(1, ada, ben);

  for (const page of [ada, ben]) await page.evaluate(() => { window.felt = []; window.lane = ui.reactions(room, document.documentElement); lane.on(({ emoji, self }) => felt.push([emoji, self])); });
  await ada.mouse.move(300, 200);
  assert.deepEqual(await ada.evaluate(() => ["🎉", "", "e".repeat(33)].map((emoji) => lane.send(emoji))), [true, false, false]);
  const place = await eventually("the reaction rises", () => ben.evaluate(() => {
    const spark = document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".spark");
    return spark && { text: spark.textContent, x: spark.getBoundingClientRect().x };
  }));
  assert.deepEqual(place, { text: "🎉", x: 210 });
  for (const [page, self] of [[ada, true], [ben, false]]) await eventually("told", async () => { assert.deepEqual(await page.evaluate(() => felt), [["🎉", self]]); return true; });
  await eventually("and is gone", () => ben.evaluate(() => !document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".spark")));

  await ada.evaluate(() => { window.talk = ui.chat(room); talk.say("Over here"); });
  await eventually("it is read", async () => (await drawn(ben))[0]?.chat === "Over here");
  assert.equal(await ada.evaluate(() => document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".mine .bubble").textContent), "Over here", "here, too");
  await ada.evaluate(() => talk.say(null));
  await eventually("it is over", async () => (await drawn(ben))[0]?.chat === "");

  for (const page of [ada, ben]) await page.evaluate(() => { window.trail = ui.follow(room, document.documentElement); window.followed = []; trail.on((member) => followed.push(member?.user.name ?? null)); });
  await ada.evaluate(() => scrollTo(0, 1000));
  assert.equal(await ada.evaluate(() => room.me.state.cursormesh?.view), undefined, "nothing is told while nobody follows");
  await ben.evaluate(() => trail.follow(room.others[0]));
  const sees = async (y) => {
    const share = await ada.evaluate((y) => (y + innerHeight / 2) / document.documentElement.scrollHeight, y);
    await eventually(`Ben looks at ${share}`, () => ben.evaluate((share) => Math.abs((scrollY + innerHeight / 2) / document.documentElement.scrollHeight - share) < 0.002, share));
  };
  await sees(1000);
  await ada.evaluate(() => scrollTo(0, 3000));
  await sees(3000);
  await ben.mouse.move(100, 100);
  await ben.mouse.wheel(0, -100);
  await eventually("by hand it ends", async () => { assert.deepEqual(await ben.evaluate(() => followed), ["Ada", null]); return true; });
  await eventually("nothing is told any more", () => ada.evaluate(() => room.me.state.cursormesh?.view === undefined));
  await ben.evaluate(() => trail.follow(room.others[0]));
  await ada.evaluate(() => room.leave());
  await eventually("gone", async () => { assert.deepEqual(await ben.evaluate(() => [followed, trail.member]), [["Ada", null, "Ada", null], null]); return true; });
  noErrors(ada, ben);
}));

test("who comes and goes is said politely, together, and of a person once", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Here</h1></main>`) });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "html");
  await ada.evaluate(() => {
    window.said = [];
    const live = document.querySelector("[data-cursormesh=announcements]").shadowRoot.querySelector("[aria-live=polite][role=status]");
    new MutationObserver(() => live.textContent && said.push(live.textContent.replace(/[\u2068\u2069]/g, ""))).observe(live, { childList: true, characterData: true, subtree: true });
  });
  const crowd = await visitor(one, at("/"));
  await crowd.evaluate(async (names) => {
    window.clients = names.map((name) => {
      const client = cursormesh.connect({ persist: false });
      client.room("lobby", { user: { name, id: name.slice(0, 3) } });
      return client;
    });
  }, ["Ben", "Ben", "Cy", `Dee ${"x".repeat(150)}`, "Eve\u202e"]);
  await meet(5, ada);
  const heard = await eventually("it is said", () => ada.evaluate(() => said[0]));
  assert.match(heard, /^[^,]+, [^,]+, [^,]+ and 1 more joined$/);
  assert.ok(heard.length < 140 && heard.includes("Ben") && !heard.includes("\u202e"), heard);
  await crowd.evaluate(() => clients[0].close());
  await crowd.evaluate(() => clients[2].close());
  await meet(3, ada);
  await eventually("it is said", async () => { assert.equal(await ada.evaluate(() => said[1]), "Cy left"); return true; });
  noErrors(ada, crowd);
}));

test("strangers may send what they like", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Here</h1><div data-cursor-anchor="a" id="a">a</div></main>`) });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "html");
  await ada.evaluate(() => { ui.avatars(room, null, { max: 30, choose() {} }); window.lane = ui.reactions(room, overlay); ui.follow(room, document.documentElement); });
  const stranger = await visitor(one, at("/"));
  await stranger.evaluate(async ([url]) => {
    window.say = (state, name = "x") => new Promise((resolve, reject) => {
      const socket = new WebSocket(url, "cursormesh.v1.json");
      const send = (message) => socket.send(JSON.stringify(message));
      socket.onerror = reject;
      socket.onopen = () => send({ type: "hello", client: "stranger", protocol: 2 });
      socket.onmessage = ({ data }) => {
        const message = JSON.parse(data);
        if (message.type === "welcome") send({ type: "join", room: "lobby", user: { name, id: "", color: 5 }, state });
        if (message.type !== "joined") return;
        for (const [x, y] of [[0.5, 0.5], [8.5, 0.5], [80, 0.5], [-5, 3e38], [3e38, -3e38], [0.2, 0.3]]) send({ type: "cursor", room: "lobby", t: 1, x, y });
        for (const data of [null, 1, [], { emoji: "e".repeat(10_000), x: 0, y: 0 }, { emoji: {}, x: 0, y: 0 }, { emoji: "🎉", x: "a", y: {} }, { emoji: "<img src=x onerror=alert(1)>", x: 0, y: 0 }, { emoji: "🎉", x: 1e300, y: 0 }]) {
          send({ type: "event", room: "lobby", name: "cursormesh.reaction", data });
        }
        for (let i = 0; i < 200; i += 1) send({ type: "event", room: "lobby", name: "cursormesh.reaction", data: { emoji: "🎉", x: 0.5, y: 0.1 } });
        resolve();
      };
    });
  }, [node.url("/v1").replace("http", "ws")]);
  const states = [
    null, 1, "x", [], { cursormesh: 1 }, { cursormesh: { chat: "y".repeat(4_000) } }, { cursormesh: { chat: { a: 1 } } }, { cursormesh: { chat: "<b>bold</b>" } },
    { cursormesh: { anchor: [1, ["a"]] } }, { cursormesh: { anchor: [-1, "a"] } }, { cursormesh: { anchor: { 0: 1, 1: "a" } } }, { cursormesh: { anchor: [1, "__proto__"] } },
    { cursormesh: { view: ["a", {}, null, []] } }, { cursormesh: { follow: ["x"], idle: {}, touch: "no" } }, { cursormesh: { chat: `a${"\u0301".repeat(1_500)}` } },
  ];
  for (const state of states) await stranger.evaluate((state) => say(state), state);
  const names = ["<script>alert(1)</script>", "\u202e".repeat(40), `a${"\u0301".repeat(100)}`, "👩‍👩‍👧‍👦".repeat(10), "W".repeat(256)];
  for (const name of names) await stranger.evaluate((name) => say(null, name), name);
  const count = states.length + names.length;
  await meet(count, ada);
  const all = await eventually("all are drawn", async () => { const all = await drawn(ada); assert.equal(all.length, count); return all; });
  assert.ok(all.every(({ chat }) => chat.length <= 24 * 201));
  assert.ok(all.some(({ chat }) => chat === "<b>bold</b>"), "as text");
  const box = await ada.evaluate(() => {
    const root = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
    const sizes = [...root.querySelectorAll(".label,.bubble")].map((one) => one.getBoundingClientRect());
    return { width: Math.max(...sizes.map(({ width }) => width)), height: Math.max(...sizes.map(({ height }) => height)), sparks: root.querySelectorAll(".spark").length, odd: root.querySelectorAll("img,b,script").length };
  });
  assert.ok(box.width <= 262 && box.height <= 122 && box.sparks <= 60 && box.odd === 0, JSON.stringify(box));
  assert.equal((await faces(ada)).length, count + 1);
  assert.ok(await ada.evaluate(() => document.documentElement.scrollWidth <= innerWidth), "the page is no wider for it");
  noErrors(ada, stranger);
}));

test("the container and the page are as they were, during and after", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Here</h1><div id="board"><p>One</p><p>Two</p></div></main>`, "#board{height:200px;overflow:auto}html>div{display:none}div{position:static!important;opacity:0!important;transform:scale(3)!important}") });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", "#board");
  const ben = await open(one, at("/"), "Ben", "#board");
  await meet(1, ada, ben);
  await ben.mouse.move(100, 100);
  await ben.mouse.move(110, 120);
  await cursorAt(ada, 110, 120);
  const during = await ada.evaluate(() => ({ board: document.querySelector("#board").outerHTML, same: document.body.outerHTML === new DOMParser().parseFromString(before, "text/html").body.outerHTML }));
  assert.ok(during.same && !during.board.includes("cursormesh"), during.board);
  await ada.evaluate(() => {
    window.more = [ui.avatars(room, document.querySelector("h1")), ui.reactions(room, document.body), ui.chat(room), ui.follow(room, document.body), ui.idle(room), ui.smooth(room)];
    more[2].say("hello");
  });
  await ada.mouse.move(120, 120);
  await ada.evaluate(() => {
    for (const one of [...more, overlay]) one.stop();
    overlay.stop();
  });
  assert.equal(await ada.evaluate(() => document.documentElement.outerHTML), await ada.evaluate(() => before));
  assert.deepEqual(await ada.evaluate(() => room.me.state), {});
  noErrors(ada, ben);
}));

test("faces: a person once, in order, with a number for the rest; chosen with the keyboard", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Here</h1><div id="faces"></div></main>`) });
  const one = await browser(t);
  const ada = await open(one, at("/"), "Ada", null);
  await ada.evaluate(() => { window.chosen = []; ui.avatars(room, document.querySelector("#faces"), { max: 3, grace_ms: 1_500, choose: ({ user }) => chosen.push(user.name) }); });
  const crowd = await visitor(one, at("/"));
  const come = (name, id) => crowd.evaluate(([name, id]) => new Promise((resolve) => {
    const client = cursormesh.connect({ persist: false });
    (window.clients ??= {})[name] = client;
    client.room("lobby", { user: { name, id } }).on("ready", resolve);
  }), [name, id]);
  await come("Ben", "b");
  await come("Ben ", "b");
  await come("Cy", "");
  const shows = (expected) => eventually("these are the faces", async () => { assert.deepEqual(await faces(ada), expected); return true; });
  await shows(["Ada (you)", "Ben", "Cy"]);
  await come("Dee", "");
  await come("Eve", "");
  await shows(["Ada (you)", "Ben", "Cy", "2 more: Dee, Eve"]);
  await ada.keyboard.press("Tab");
  await ada.keyboard.press("Tab");
  await ada.keyboard.press("Enter");
  assert.deepEqual(await ada.evaluate(() => chosen), ["Ben"]);
  await crowd.evaluate(() => { clients.Dee.close(); clients.Eve.close(); clients.Cy.close(); });
  await shows(["Ada (you)", "Ben", "Cy (left)"]);
  assert.equal(await ada.evaluate(() => document.activeElement.shadowRoot.activeElement.ariaLabel), "Ben", "focus stays");
  await shows(["Ada (you)", "Ben"]);
  for (const scheme of ["light", "dark"]) {
    await ada.emulateMedia({ colorScheme: scheme });
    await ada.evaluate(AXE);
    const { violations } = await ada.evaluate(() => axe.run());
    assert.deepEqual(violations.map(({ id, nodes }) => [id, nodes.map(({ html }) => html)]), []);
  }
  noErrors(ada, crowd);
}));

test("two hundred cursors that all move cost little of a frame, and five hundred is the most that is drawn", { timeout: 120_000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": application(`<main><h1>Here</h1><div id="board"></div></main>`, "#board{height:500px;overflow:auto;background:#eee}") });
  const one = await browser(t);
  const page = await visitor(one, at("/"));
  // What the page's thread computes, not how long it takes on a machine that others use, too.
  const devtools = await page.context().newCDPSession(page);
  await devtools.send("Performance.enable", { timeDomain: "threadTicks" });
  const computed = async () => Object.fromEntries((await devtools.send("Performance.getMetrics")).metrics.map(({ name, value }) => [name, value * 1_000]));
  await page.exposeFunction("computed", computed);
  const cost = await page.evaluate(async (ui_url) => {
    const { render } = await import(ui_url);
    const moved = new Set();
    const none = () => () => {};
    const members = Array.from({ length: 600 }, (_, n) => ({ id: `m${n}`, user: { id: "", name: `Member ${n}`, color: n % 360 }, state: null, node: "n1", joined_at: n, away: false }));
    const room = {
      me: { member: null, state: {}, set: () => true }, others: members, count: 601, joined: true, presence: { on: none }, events: { on: none }, on: none,
      cursors: { all: [], set() {}, on: (fn) => { moved.add(fn); return () => moved.delete(fn); } },
    };
    const tell = (count, now) => {
      for (let n = 0; n < count; n += 1) {
        const turn = now / 900 + n;
        for (const fn of moved) fn({ member: members[n], x: 0.5 + 0.4 * Math.sin(turn), y: 0.5 + 0.4 * Math.cos(turn * 1.3), time_ms: Math.floor(now) & 0xffff });
      }
    };
    // How often frames come, and how often they ask the page for its layout.
    const frames = [];
    let reads = 0;
    const real = window.requestAnimationFrame.bind(window);
    window.requestAnimationFrame = (fn) => real((now) => {
      frames.push(now);
      fn(now);
    });
    const read = Element.prototype.getBoundingClientRect;
    Element.prototype.getBoundingClientRect = function () {
      reads += 1;
      return read.call(this);
    };
    const overlay = render(room, document.querySelector("#board"));
    const wait = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
    /** Does something before each frame for 2 s; what the page computed for one of them. */
    const measure = async (each) => {
      let going = true;
      let count = 0;
      const loop = (now) => {
        if (!going) return;
        count += 1;
        each(now, count);
        real(loop);
      };
      real(loop);
      await wait(300);
      const [before, first] = [await computed(), count];
      await wait(2_000);
      const [after, last] = [await computed(), count];
      going = false;
      const ms = (name) => (after[name] - before[name]) / (last - first);
      return { script_ms: ms("ScriptDuration"), style_ms: ms("RecalcStyleDuration"), layout_ms: ms("LayoutDuration"), frames: last - first };
    };
    // The least that 200 moving elements cost: a write each.
    const bare = Array.from({ length: 200 }, () => document.body.appendChild(document.createElement("div")));
    for (const one of bare) one.style.cssText = "position:fixed;left:0;top:0;width:20px;height:20px;background:red;will-change:transform";
    const floor = await measure((now) => bare.forEach((one, n) => { one.style.transform = `translate(${400 + 300 * Math.sin(now / 900 + n)}px,${300 + 200 * Math.cos(now / 700 + n)}px)`; }));
    for (const one of bare) one.remove();

    tell(200, performance.now());
    await wait(300);
    reads = 0;
    const start = performance.now();
    const ours = await measure((now, count) => count % 2 && tell(200, now));
    const seconds = (performance.now() - start) / 1_000;
    const root = document.querySelector("[data-cursormesh=cursors]").shadowRoot;
    const drawn = root.querySelectorAll(".cursor").length;
    const moving_reads = reads;
    await wait(700);
    frames.length = 0;
    await wait(600);
    const still = frames.length;
    tell(600, performance.now());
    const most = root.querySelectorAll(".cursor").length;
    overlay.stop();
    return { floor, ours, reads: moving_reads, seconds, drawn, still, most };
  }, node.url("/cursormesh-ui.mjs"));
  t.diagnostic(JSON.stringify(cost));
  assert.equal(cost.drawn, 200);
  const total = ({ script_ms, style_ms, layout_ms }) => script_ms + style_ms + layout_ms;
  assert.ok(total(cost.ours) < 3 * total(cost.floor), "less than three times the least that is possible");
  assert.ok(cost.reads < 40 + 12 * cost.seconds, "layout is read when it changed, not per cursor or per frame");
  assert.ok(cost.still <= 2, "what stands still costs nothing but a look now and then");
  assert.equal(cost.most, 500);
}));
