// The page that every node serves, on three nodes at once.

import assert from "node:assert/strict";
import { test } from "node:test";
import { browser, connected, cursorAt, cursors, idOf, labels, openDemo, peopleByNode, screenshot } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";

/** For as long a member stays whose page went away. */
const GRACE_MS = 10_000;

test("a mouse moved on one node's page appears on the others' at the same place, in the same colour", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const bo = await openDemo(chromium, cluster, "n2", "Bo", { colorScheme: "dark" });
    const cy = await openDemo(chromium, cluster, "n3", "Cy", { reducedMotion: "reduce" });
    const pages = [ada, bo, cy];

    const colors = new Set();
    for (const [index, page] of pages.entries()) {
      const [x, y] = [200 + 150 * index, 300 + 40 * index];
      await page.mouse.move(x - 80, y - 60);
      await page.mouse.move(x, y, { steps: 8 });
      const [first, second] = await Promise.all(pages.filter((other) => other !== page).map((other) => cursorAt(other, x, y)));
      assert.deepEqual(first, second, "both others show the same sender in the same colour");
      colors.add(first.sender);
    }
    assert.equal(colors.size, 3, "three visitors, three senders");

    for (const page of pages) {
      await eventually("everyone is listed with their node", async () => {
        assert.deepEqual(await peopleByNode(page), { n1: ["Ada"], n2: ["Bo"], n3: ["Cy"] });
        return true;
      });
      assert.equal(Object.keys(await cursors(page)).length, 2, "one's own pointer is not drawn twice");
      assert.deepEqual(page.errors, []);
    }
    assert.equal(await ada.locator("#node-name").textContent(), "n1");
    assert.equal(await ada.locator("#node-region").textContent(), "default");
    assert.equal(await ada.locator("#transport").textContent(), "WebSocket");
    await eventually("the round trip is shown", async () => /^\d+(\.\d)? ms$/.test(await ada.locator("#latency").textContent()));

    await Promise.all([screenshot(ada, "demo-light"), screenshot(bo, "demo-dark"), screenshot(cy, "demo-reduced-motion")]);
  });
});

test("who comes later sees where the others are, and who leaves takes the cursor along", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    await ada.mouse.move(321, 234);

    const bo = await openDemo(chromium, cluster, "n2", "Bo");
    await cursorAt(bo, 321, 234);

    await ada.locator("#name").fill("Ada the First");
    await eventually("a new name is shown", async () => (await labels(bo)).includes("Ada the First"));
    await ada.locator("#color").fill("120");
    await eventually("a new colour is shown", async () => Object.values(await cursors(bo))[0].color === "rgb(64, 191, 64)");
    const id = await idOf(ada);
    await ada.reload();
    await connected(ada);
    assert.equal(await ada.locator("#name").inputValue(), "Ada the First", "name and colour are kept");
    assert.equal(await ada.locator("#color").inputValue(), "120");
    assert.equal(await eventually("she is listed", () => idOf(ada)), id, "a page that is loaded again is the same member");

    await ada.close();
    // A page that goes may come back, as one that is loaded again does: her member stays for 10 s.
    await eventually("her cursor and her name are gone", async () => {
      assert.deepEqual(await cursors(bo), {});
      assert.deepEqual(await peopleByNode(bo), { n2: ["Bo"] });
      return true;
    }, { within_ms: GRACE_MS + 5_000 });
    const face = bo.locator("[data-cursormesh=avatars] .item.gone .face");
    assert.match(await face.getAttribute("aria-label"), /^Ada the First \(left\)$/, "her face stays a little longer, greyed");
    await face.waitFor({ state: "detached" });
  });
});

test("a cursor glides to where it is heard of, and jumps where motion is not wanted", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const gliding = await openDemo(chromium, cluster, "n2", "Bo");
    const jumping = await openDemo(chromium, cluster, "n3", "Cy", { reducedMotion: "reduce" });
    await ada.mouse.move(100, 300);
    await Promise.all([gliding, jumping].map((page) => cursorAt(page, 100, 300)));

    for (const page of [gliding, jumping]) {
      await page.evaluate(() => {
        window.drawn = [];
        const cursor = document.querySelector("[data-cursormesh=cursors]").shadowRoot.querySelector(".cursor");
        new MutationObserver(() => drawn.push(new DOMMatrix(cursor.style.transform).e))
          .observe(cursor, { attributeFilter: ["style"] });
      });
    }
    await ada.mouse.move(500, 300);
    await Promise.all([gliding, jumping].map((page) => cursorAt(page, 500, 300)));
    const between = (page) => page.evaluate(() => drawn.filter((x) => x > 100 && x < 500).length);
    assert.ok(await between(gliding) > 0);
    assert.equal(await between(jumping), 0);
  });
});

test("rooms do not mix", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const room = "a room/über ☃";
    const ada = await openDemo(chromium, cluster, "n1", "Ada", { room });
    const bo = await openDemo(chromium, cluster, "n2", "Bo", { room });
    const elsewhere = await openDemo(chromium, cluster, "n2", "Cy");
    await elsewhere.mouse.move(50, 400);
    await ada.mouse.move(400, 300);
    await cursorAt(bo, 400, 300);
    await eventually("only the room's visitors are listed", async () => {
      assert.deepEqual(await peopleByNode(bo), { n1: ["Ada"], n2: ["Bo"] });
      return true;
    });
    assert.equal(Object.keys(await cursors(bo)).length, 1);
    assert.deepEqual(await cursors(elsewhere), {});
  });
});

test("names are text and messages are data, whatever a visitor sends", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const rogue = await openDemo(chromium, cluster, "n2", "Rogue");
    await rogue.evaluate(() => new Promise((resolve, reject) => {
      const socket = new WebSocket(`ws://${location.host}/ws?room=lobby`);
      socket.onerror = reject;
      socket.onopen = () => {
        for (const message of [
          { name: { toString: "no" }, x: "1", y: [] },
          { x: 1e308, y: -1e308, name: "\u0000\u202e" },
          { client: {}, left: "true", sender: 7, color: "red", __proto__: null, constructor: 1 },
          { x: 90, y: 400, name: `<img src=x onerror="document.title='taken'">\u202e${"W".repeat(20000)}` },
        ]) socket.send(JSON.stringify(message));
        resolve();
      };
    }));
    await cursorAt(ada, 90, 400);
    // What a raw message says beside its place is nobody's name; the client's own messages are.
    assert.deepEqual(await labels(ada), [""]);
    await rogue.evaluate(async (name) => {
      const { connect } = await import("/cursormesh.mjs");
      const room = connect({ persist: false }).room("lobby", {
        user: { name, color: 200 }, state: { bot: "<b>", cursormesh: { chat: "<img src=x onerror=alert(1)>\u202e\u0000", view: ["x"], anchor: 7, touch: {} } },
      });
      await new Promise((resolve) => room.on("ready", resolve));
      room.cursors.set(300, 420);
      for (const data of [null, 7, { emoji: "<script>alert(1)</script>", x: 1, y: 1 }, { emoji: [], x: "1" }, { emoji: "<b>x</b>", x: 300, y: 420 }]) room.events.send("cursormesh.reaction", data);
    }, `<img src=x onerror="document.title='taken'">\u202e${"W".repeat(100)}`);
    await cursorAt(ada, 300, 420);
    const label = ada.locator("[data-cursormesh=cursors] .cursor .label:not([hidden])");
    assert.match(await label.textContent(), /^<img src=x onerror="document\.title='taken'">/);
    assert.doesNotMatch(await label.textContent(), /\u202e/);
    assert.ok((await label.boundingBox()).width < 200, "a long name is cut short");
    assert.equal(await ada.locator(".bubble:not([hidden])").textContent(), "<img src=x onerror=alert(1)>");
    await eventually("the name is listed, cut short", async () => {
      const all = Object.values(await peopleByNode(ada)).flat();
      return all.includes(`<img src=x onerror="document.title='taken'">`.slice(0, 40));
    });
    assert.equal(await ada.locator("img, script:not([src])").count(), 0);
    assert.equal(await ada.title(), "cursormesh · n1");
    assert.deepEqual(ada.errors, []);
    await screenshot(ada, "hostile-name");
  });
});

test("a phone sees the same room, and a finger moves a cursor", { timeout: 90_000 }, async (t) => {
  await withCluster(async (cluster) => {
    const chromium = await browser(t);
    const ada = await openDemo(chromium, cluster, "n1", "Ada");
    const phone = await openDemo(chromium, cluster, "n3", "Philippa-Charlotte from a very small phone", {
      viewport: { width: 360, height: 640 }, deviceScaleFactor: 2, hasTouch: true, isMobile: true, colorScheme: "dark",
    });
    const finger = await phone.context().newCDPSession(phone);
    const touch = (type, ...touchPoints) => finger.send("Input.dispatchTouchEvent", { type, touchPoints });
    await touch("touchStart", { x: 100, y: 200 });
    await cursorAt(ada, 100, 200);
    await touch("touchMove", { x: 180, y: 220 });
    await cursorAt(ada, 180, 220);
    await touch("touchEnd");
    await eventually("a finger that lets go is nowhere", async () => Object.keys(await cursors(ada)).length === 0);
    await ada.mouse.move(120, 300);
    await cursorAt(phone, 120, 300);
    await screenshot(phone, "demo-phone");

    await fits(phone);
    await phone.locator("#people-toggle").tap();
    await eventually("both are listed", async () => (await phone.locator(".person").count()) === 2);
    await fits(phone);
    await screenshot(phone, "demo-phone-people");
    await phone.locator("#talk").tap();
    await fits(phone);
    await phone.locator("#words").fill("hello from a thumb");
    await eventually("what is said without a pointer has a place", async () =>
      assert.deepEqual(await ada.locator("[data-cursormesh=cursors] .cursor:not(.waiting) .bubble").allTextContents(), ["hello from a thumb"]) ?? true);
  });
});

/** Nothing of the page sticks out of the screen, and its panels do not overlap. */
async function fits(page) {
  const { size, panels } = await page.evaluate(() => ({
    size: { width: innerWidth, height: innerHeight },
    panels: [...document.querySelectorAll(".panel")].filter((panel) => panel.checkVisibility()).map((panel) => {
      const { left, top, right, bottom } = panel.getBoundingClientRect();
      return { id: panel.id, left, top, right, bottom, over: [...panel.querySelectorAll("*")].filter((one) => one.checkVisibility() && one.getClientRects().length > 0 && one.getBoundingClientRect().right > right + 1 && !one.closest(".unseen")).map((one) => one.id || one.className) };
    }),
  }));
  for (const { id, left, top, right, bottom, over } of panels) {
    assert.ok(left >= 0 && top >= 0 && right <= size.width && bottom <= size.height, `${id} is on the screen`);
    assert.deepEqual(over, [], `nothing sticks out of ${id}`);
    for (const other of panels) {
      if (other.id === id) continue;
      const apart = other.left >= right || other.right <= left || other.top >= bottom || other.bottom <= top;
      assert.ok(apart, `${id} and ${other.id} do not overlap`);
    }
  }
}
