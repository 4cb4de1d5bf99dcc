/** Where there is no page: markup, and nothing that opens. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { createElement as h } from "react";
import { renderToString } from "react-dom/server";
import { CursormeshProvider, RoomProvider, useClient, useConnectionStatus, useMyPresence, useOther, useOthers, useRoom, useSelf } from "../src/react";
import { World } from "./world";

test("a server renders what there is without a room, and opens nothing", (t) => {
  assert.equal(typeof document, "undefined");
  const complaints = t.mock.method(console, "error", () => {});
  const world = new World();
  const Board = () => {
    const [state] = useMyPresence();
    return h("p", null, JSON.stringify([useOthers(), useOther("x"), useSelf(), state, useRoom(), useClient(), useConnectionStatus().state]));
  };
  const markup = renderToString(
    h(CursormeshProvider, { environment: world.environment }, h(RoomProvider, { name: "lobby", state: { tool: "pen" } }, h(Board))),
  );
  const text = markup.replaceAll("&quot;", '"');
  assert.equal(text, '<p>[[],null,null,{"tool":"pen"},null,null,"connecting"]</p>');
  assert.deepEqual([world.sockets.length, world.clock.pending, complaints.mock.callCount()], [0, 0, 0]);
});
