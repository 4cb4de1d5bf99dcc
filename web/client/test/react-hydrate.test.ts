/** What a server rendered is taken over by a page. */
import "./dom";
import assert from "node:assert/strict";
import { test } from "node:test";
import { StrictMode, Suspense, lazy } from "react";
import { renderToString } from "react-dom/server";
import { useConnectionStatus, useMyPresence, useOthers, useRoom, useSelf } from "../src/react";
import { Page, h } from "./react-page";
import { member } from "./world";

test("hydration finds the markup that it expects, and the room is entered after that", async (t) => {
  const page = new Page(t);
  const Board = () => {
    const [state] = useMyPresence();
    return h("p", null, `${useRoom()?.name} ${useSelf()?.id} ${useOthers().map(({ id }) => id)} ${JSON.stringify(state)} ${useConnectionStatus().state}`);
  };
  const tree = h(StrictMode, null, page.room(h(Board), { room: { state: { tool: "pen" } } }));
  page.container.innerHTML = renderToString(tree);
  assert.equal(page.text, 'undefined undefined  {"tool":"pen"} connecting');
  assert.equal(page.world.sockets.length, 0);
  const before = page.container.firstChild;
  await page.hydrate(tree);
  assert.ok(page.container.firstChild === before, "the server's element, not another one");
  await page.act(() => {
    page.world.socket.welcome();
    page.world.socket.join("lobby", [member("ada", { alias: 1 })]);
  });
  assert.equal(page.text, 'lobby me ada {"tool":"pen"} connected');
  assert.deepEqual([page.world.sockets.length, page.world.socket.all("join").length, page.world.socket.all("leave").length], [1, 1, 0]);
});

test("a part that hydrates only after the room was joined finds the markup that it expects, too", async (t) => {
  const page = new Page(t);
  const Who = () => h("p", null, `${useOthers().length} ${useSelf()?.id} ${useConnectionStatus().state}`);
  let arrived = () => {};
  const Late = lazy(() => new Promise<{ default: typeof Who }>((resolve) => (arrived = () => resolve({ default: Who }))));
  const tree = (one: typeof Who | typeof Late) => page.room(h(Suspense, { fallback: "waits" }, h(one)));
  page.container.innerHTML = renderToString(tree(Who));
  await page.hydrate(tree(Late));
  await page.act(() => {
    page.world.socket.welcome();
    page.world.socket.join("lobby", [member("ada", { alias: 1 })]);
  });
  const before = page.container.querySelector("p");
  assert.equal(before?.textContent, "0 undefined connecting", "still the server's");
  await page.act(() => arrived());
  await page.later();
  assert.ok(page.container.querySelector("p") === before, "the same element");
  assert.equal(page.text, "1 me connected");
});
