/** The components, with what really draws, and cursors by callback. */
import "./dom";
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { StrictMode, useState } from "react";
import { renderToString } from "react-dom/server";
import type { Overlay } from "../src/api";
import { AvatarStack, Cursors, useCursors, useMyPresence, useOther, useRoom } from "../src/react";
import type { SmoothCursor } from "../src/ui";
import { Page, act, h } from "./react-page";
import { member } from "./world";

const ada = member("ada", { alias: 1 });
const bo = member("bo", { alias: 2 });

/** A cursor frame of room number 7: of `alias`, at (1, 2). */
const moved = (alias: number) => `0200010007000000${alias.toString(16).padStart(2, "0")}0000000000803f00000040`;

const joined = (page: Page) =>
  page.act(() => {
    page.world.socket.welcome();
    page.world.socket.join("lobby", [ada, bo]);
  });

/** Waits until a fact holds, with frames and timers going on. */
async function eventually(fact: string, holds: () => boolean): Promise<void> {
  for (const end = Date.now() + 5_000; !holds(); await act(() => sleep(2))) assert.ok(Date.now() < end, `not true within 5 s: ${fact}`);
}

/** What is drawn of one kind, in all hosts. */
const drawn = (kind: "cursors" | "avatars", selector: string): Element[] =>
  [...document.querySelectorAll(`[data-cursormesh=${kind}]`)].flatMap((host) => [...(host.shadowRoot?.querySelectorAll(selector) ?? [])]);
const hosts = (kind: string) => document.querySelectorAll(`[data-cursormesh=${kind}]`).length;

test("cursors are told by frame, with the newest function, and nothing renders", async (t) => {
  const page = new Page(t);
  const told: [string, readonly SmoothCursor[]][] = [];
  const Ear = ({ tag }: { tag: string }) => (page.counts.count("ear"), useCursors((cursors) => void told.push([tag, cursors]), { smooth: false }), null);
  await page.strict(page.room(h(Ear, { tag: "a" })));
  await joined(page);
  page.counts.take();
  await page.act(() => {
    for (let i = 0; i < 50; i += 1) page.world.socket.bytes(moved(1));
  });
  await eventually("Ada's cursor is told", () => told.length > 0);
  assert.ok(told.length < 50, `${told.length} calls for 50 positions that came at once`);
  assert.deepEqual(told.at(-1)?.[1].map(({ member, x, y }) => [member.id, x, y]), [["ada", 1, 2]]);
  assert.deepEqual(page.counts.take(), {});
  await page.strict(page.room(h(Ear, { tag: "b" })));
  await page.act(() => page.world.socket.bytes(moved(2)));
  await eventually("both are told", () => told.at(-1)?.[1].length === 2);
  assert.equal(told.at(-1)?.[0], "b");
  const before = told.length;
  await page.unmount();
  await sleep(20);
  assert.equal(told.length, before, "nothing is told after the end");
});

test("<Cursors> draws over its children once, and takes all away", async (t) => {
  const page = new Page(t);
  const overlayRef: { current: Overlay | null } = { current: null };
  let again = () => {};
  const Board = () => {
    const [n, set] = useState(0);
    again = () => set(n + 1);
    page.counts.count("board");
    // Everything that may be written where it is used.
    return h(Cursors, {
      className: "board", overlayRef, hideOthers: n > 2, announce: { joined: (names: string) => `${names} ${n}` },
      coordinates: { toScreen: ({ x, y }) => ({ x: x + n, y }), toRoom: ({ x, y }) => ({ x: x - n, y }) },
    }, `text ${n}`);
  };
  await page.strict(page.room(h(Board)));
  await joined(page);
  await eventually("there is an overlay", () => overlayRef.current !== null);
  const overlay = overlayRef.current;
  page.counts.take();
  await page.act(() => {
    for (const alias of [1, 2]) for (let i = 0; i < 20; i += 1) page.world.socket.bytes(moved(alias));
  });
  await eventually("two cursors are drawn", () => drawn("cursors", ".cursor").length === 2);
  assert.deepEqual(page.counts.take(), {}, "40 cursor positions");
  assert.equal(page.container.querySelector(".board")?.textContent, "text 0");
  for (let i = 0; i < 3; i += 1) await page.act(() => again());
  assert.equal(page.container.querySelector(".board")?.textContent, "text 3");
  assert.equal(overlayRef.current, overlay, "functions that are new make no new overlay");
  assert.equal(overlay?.hideOthers, true);
  assert.equal(hosts("cursors"), 1);
  await page.unmount();
  assert.deepEqual([hosts("cursors"), hosts("announcements"), overlayRef.current], [0, 0, null]);
});

test("<Cursors> without children draws over the element that it stands in, or over the page", async (t) => {
  const page = new Page(t);
  const at = (whole: boolean) => page.room(h("section", null, h(Cursors, { page: whole, track: false, announce: false })));
  await page.render(at(false));
  await joined(page);
  await eventually("it is drawn", () => hosts("cursors") === 1);
  assert.equal(page.container.querySelectorAll("section > span[hidden]").length, 1);
  await page.render(at(true));
  await eventually("it is drawn anew", () => hosts("cursors") === 1);
  assert.equal(page.container.querySelector("section")?.innerHTML, "");
});

test("<AvatarStack> shows who is there, and tells who was chosen", async (t) => {
  const page = new Page(t);
  const chosen: string[] = [];
  const faces = () => drawn("avatars", "button").map((face) => face.getAttribute("aria-label"));
  const stack = (tag: string) => page.room(h(AvatarStack, { className: "faces", max: 3, choose: ({ id }) => void chosen.push(`${tag} ${id}`) }));
  await page.strict(stack("a"));
  await joined(page);
  await eventually("three faces", () => faces().length === 3);
  assert.deepEqual(faces(), ["me (you)", "ada", "bo"]);
  const [, face] = drawn("avatars", "button");
  await page.strict(stack("b"));
  (face as HTMLElement).click();
  assert.deepEqual(chosen, ["b ada"]);
  assert.ok(drawn("avatars", "button")[1] === face, "the same face as before");
  assert.equal(page.container.querySelectorAll(".faces > [data-cursormesh=avatars]").length, 1);
  await page.unmount();
  assert.equal(hosts("avatars"), 0);
});

test("what draws keeps its own things in the state without a render of who shows the presence", async (t) => {
  const page = new Page(t);
  const Mine = () => (page.counts.count("mine"), h("i", null, JSON.stringify(useMyPresence()[0])));
  const Hers = () => (page.counts.count("hers"), h("b", null, JSON.stringify(useOther("ada", ({ state }) => state?.tool))));
  let room: ReturnType<typeof useRoom> = null;
  const Room = () => ((room = useRoom()), null);
  await page.render(page.room([h(Mine, { key: 1 }), h(Hers, { key: 2 }), h(Room, { key: 3 })], { room: { state: { tool: "pen" } } }));
  await joined(page);
  page.counts.take();
  await page.act(() => {
    room?.me.set({ cursormesh: { anchor: [1, "title"] } });
    page.world.socket.say({ type: "presence", room: "lobby", version: "2", updated: [{ ...ada, state: { cursormesh: { anchor: [2, "text"] } } }] });
  });
  assert.deepEqual(page.counts.take(), {});
  assert.equal(page.text, '{"tool":"pen"}');
});

test("a server gives the elements alone, and a page draws in them", async (t) => {
  const page = new Page(t);
  const tree = h(StrictMode, null, page.room(h(Cursors, { className: "board" }, h(AvatarStack, { className: "faces" }), "text")));
  const markup = renderToString(tree);
  assert.equal(markup, '<div class="board"><div class="faces"></div>text</div>');
  page.container.innerHTML = markup;
  const before = page.container.firstChild;
  await page.hydrate(tree);
  await joined(page);
  await eventually("faces and cursors are drawn", () => hosts("cursors") === 1 && drawn("avatars", "li").length === 3);
  assert.ok(page.container.firstChild === before, "the same element");
  assert.equal(page.world.socket.all("join").length, 1);
});
