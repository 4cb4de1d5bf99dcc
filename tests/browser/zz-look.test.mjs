import { test } from "node:test";
import assert from "node:assert/strict";
import { browser } from "./harness/browser.mjs";
import { withNode } from "./harness/cluster.mjs";
import { site, visitor, drawn, faces, cursorAt } from "./harness/drawn.mjs";
import { eventually } from "./harness/eventually.mjs";
const PLAIN = `<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>A plain page</title>
<style>body{font:17px/1.6 Georgia,serif;max-width:640px;margin:40px auto;padding:0 20px}@media(prefers-color-scheme:dark){body{background:#14161a;color:#ddd}}</style>
<main><h1 id="title">The lighthouse keeper's notes</h1>${Array.from({ length: 8 }, (_, i) => `<p id="p${i}">The lamp is lit at dusk and put out at dawn, and in between there is the sea, which is never the same for as long as it takes to say so. Ships pass; some of them answer. In the morning the glass is cleaned and the book is written, and the weather is what it was.</p>`).join("")}</main>
<script src="NODE/cursormesh.js" data-room="auto"></script></html>`;
test("look", { timeout: 60000 }, (t) => withNode(async (node) => {
  const at = await site(t, node, { "/": PLAIN });
  const b = await browser(t);
  const names = ["Ada Lovelace", "Grace", "أحمد بن محمد", "🦊 Fox", "A person with a name that is really far too long to be shown"];
  for (const [look, options] of Object.entries({ light: {}, dark: { colorScheme: "dark" }, phone: { viewport: { width: 390, height: 800 }, hasTouch: true, isMobile: true, deviceScaleFactor: 2 } })) {
    const page = await visitor(b, at("/"), options);
    const others = [];
    for (const [i, name] of names.entries()) {
      const other = await visitor(b, at("/"), { viewport: { width: 1200, height: 800 } });
      await other.waitForFunction(() => document.querySelector("script").cursormesh?.room.joined);
      await other.evaluate(([name, i]) => document.querySelector("script").cursormesh.room.me.setUser({ name, color: i * 73 + 10 }), [name, i]);
      await other.mouse.move(420 + i * 90, 180 + i * 90, { steps: 3 });
      if (i === 1) await other.evaluate(() => document.querySelector("script").cursormesh.room.me.set({ cursormesh: { chat: "I think this sentence could go, what do you say?", ...document.querySelector("script").cursormesh.room.me.state.cursormesh } }));
      others.push(other);
    }
    await eventually("all drawn", async () => { const d = await drawn(page); assert.equal(d.length, 5); return d.every((o) => o.name); });
    await new Promise((r) => setTimeout(r, 600));
    if (look === "light") await others[0].evaluate(() => document.querySelector("script").cursormesh.room.events.send("cursormesh.reaction", { emoji: "🎉", x: 0.5, y: 0.2 }));
    await new Promise((r) => setTimeout(r, 400));
    await page.screenshot({ path: `/tmp/h/scratch/${look}.png` });
    console.log(look, await drawn(page), await faces(page), page.errors, others.map((o) => o.errors));
    for (const o of others) await o.context().close();
    await page.context().close();
  }
}));
