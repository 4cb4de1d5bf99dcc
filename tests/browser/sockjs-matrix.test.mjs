// Every transport says to every transport, over two nodes, what is hard to carry.

import assert from "node:assert/strict";
import { test } from "node:test";
import utilities from "playwright-core/lib/utilsBundle";
import { browser } from "./harness/browser.mjs";
import { withCluster } from "./harness/cluster.mjs";
import { eventually } from "./harness/eventually.mjs";
import { NODE_TRANSPORTS, PATIENCE_MS, servePage, sessions, site, sockjsPage } from "./harness/sockjs.mjs";

const PAGE = "sockjs/sessions.html";
/**
 * Which sessions share a page: a browser has six connections to a host. `htmlfile` is for pages of the node
 * itself.
 */
const PAGES = [
  ["websocket", "xhr-streaming", "eventsource", "iframe-eventsource"],
  ["htmlfile", "iframe-htmlfile", "iframe-xhr-polling"],
  ["xhr-polling", "jsonp-polling"],
];

/** JSON strings as they are written: what arrives is the same, character by character. */
const STRINGS = [
  "plain", "", "%41 %80 %c3%a9 %25 %", "</script><script>alert(1)</script>", "<!-- <![CDATA[ ]]> -->", "&amp; &lt; &#65; + =",
  "a/b?c=d&d=e#f;g", "\u2028 \u2029", "\u200c\u200d\u200e\u200f", "\ufeff in front \ufeff", "\uffff\ufffe\ufff0", "\ufdd0",
  "\u0080\u009f\u00a0\u00ad", "é ß ñ", "e\u0301 \u0344", "漢字 한글 עברית ‮rtl", "😀 👨‍👩‍👧 𝄞 \u{10ffff}", "\u2060\u206f", "\u0600\u06dd\u070f\u17b4",
  "\\u0000\\u0001\\u001f\\u007f", "\u007f", "\\\" \\\\ \\/ \\b \\f \\n \\r \\t", "\\\\u0041 \\u0041 \\u00e9 \\ud83d\\ude00", "\\ud800", "\\udc00 \\ud800",
  "\\ud83d \\ud83d\\ude00", "' ` ${x} $& $1", "  spaces\u3000 ", "o", "h", "a[\\\"x\\\"]", "c[3000,\\\"Go away!\\\"]", "data: x\\r\\n\\r\\n",
  "x".repeat(2000), "ä😀\u2028".repeat(100),
];
/** Half a pair as a character. There is no UTF-8 of it, so it is replaced on the way. */
const HALF = "\ud800";

/** So many speak at a time: a node skips messages for a client that is behind by more than 256 KiB. */
const AT_ONCE = 6;

/** Someone in the room. */
class Speaker {
  constructor(name, send, texts) {
    Object.assign(this, { name, send, texts });
  }
}

test("any text by any transport to any transport, over two nodes", { timeout: 120_000 }, async (t) => {
  const home = await site(t);
  await withCluster(async (cluster) => {
    const nodes = ["n1", "n2"];
    const open = sessions(t);
    const chromium = await browser(t);
    const inNode = nodes.flatMap((node) => NODE_TRANSPORTS.map(async (transport) => {
      const session = await open(cluster.url(node, "/ws"), transport);
      return new Speaker(`${transport} in Node on ${node}`, (texts) => { for (const text of texts) session.send(text); }, () => {
        assert.equal(session.ending, null);
        return session.texts;
      });
    }));
    const inChromium = nodes.flatMap((node) => PAGES.map(async (transports) => {
      const page = await sockjsPage(chromium);
      const own = cluster.url(node, "/page.html");
      await servePage(page, own, PAGE);
      await page.goto(transports.includes("htmlfile") ? own : home.url(PAGE));
      return Promise.all(transports.map(async (transport) => {
        const name = `${transport} in Chromium on ${node}`;
        await page.evaluate(([...args]) => openSession(...args), [transport, cluster.url(node, "/ws"), { transports: transport, timeout: PATIENCE_MS }]);
        await eventually(`${name} is open`, async () => {
          assert.equal(await page.evaluate((transport) => sessions[transport].transport, transport), transport);
          return true;
        }, { within_ms: 20_000 });
        const send = (texts) => page.evaluate(([transport, texts]) => { for (const text of texts) sessions[transport].socket.send(text); }, [transport, texts]);
        return new Speaker(name, send, async () => {
          // As JSON, which has an escape for every half of a pair.
          const [texts, ending] = JSON.parse(await page.evaluate((transport) => JSON.stringify([sessions[transport].texts, sessions[transport].ending]), transport));
          assert.equal(ending, null);
          assert.deepEqual(page.errors, []);
          return texts;
        });
      }));
    }));
    const raw = nodes.flatMap((node) => ["/ws", "/ws/websocket"].map(async (path) => {
      const socket = new utilities.ws(`ws://127.0.0.1:${cluster.port(node)}${path}`, { perMessageDeflate: false });
      t.after(() => socket.terminate());
      const texts = [];
      socket.on("message", (data) => texts.push(data.toString()));
      await new Promise((resolve, reject) => socket.on("open", resolve).on("error", reject));
      return new Speaker(`${path} on ${node}`, (said) => { for (const text of said) socket.send(text); }, () => texts);
    }));
    const all = (await Promise.all([...inNode, ...inChromium, ...raw])).flat();
    t.diagnostic(`${all.length} speakers`);

    await eventually("everyone hears everyone", async () => {
      const heard = await Promise.all(all.map(async ({ texts }) => new Set((await texts()).map((text) => JSON.parse(text).hello))));
      const unheard = all.filter(({ name }) => heard.some((names) => !names.has(name)));
      await Promise.all(unheard.map(({ send, name }) => send([JSON.stringify({ hello: name })])));
      return unheard.length === 0;
    }, { within_ms: 30_000, every_ms: 500 });

    const said = new Map(all.map(({ name }) => [name, [
      ...STRINGS.map((string, n) => `{"from":"${name}","n":${n},"text":"${string}"`),
      // A WebSocket on its own replaces it before it sends.
      `{"from":"${name}","n":${STRINGS.length},"text":"${HALF} half"`,
    ]]));
    const counted = async ({ texts }) => (await texts()).filter((text) => text.startsWith("{\"from\""));
    for (let spoken = 0; spoken < all.length;) {
      const turn = all.slice(spoken, spoken + AT_ONCE);
      await Promise.all(turn.map(({ name, send }) => send(said.get(name).map((text) => `${text}}`))));
      spoken += turn.length;
      const due = spoken * (STRINGS.length + 1);
      await Promise.all(all.map((one) => eventually(`${one.name} has heard everything`, async () => {
        const { length } = await counted(one);
        assert.ok(length >= due, `${length} of ${due}`);
        return true;
      })));
    }

    for (const one of all) {
      const heard = grouped(await counted(one));
      for (const other of all) {
        const bare = heard.get(other.name).map((text) => text.replace(/,"sender":"[-0-9a-f]{36}","color":\d+\}$/, ""));
        const wanted = said.get(other.name).map((text) => text.replaceAll(HALF, "\ufffd"));
        assert.deepEqual(bare, wanted, `what ${one.name} heard of ${other.name}`);
      }
    }
  });
});

function grouped(texts) {
  const groups = new Map();
  for (const text of texts) {
    const { from } = JSON.parse(text);
    groups.set(from, [...(groups.get(from) ?? []), text]);
  }
  return groups;
}
