/** What the types promise: this file is checked by the compiler more than it is run. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Client, Room, Status } from "../src/api";
import { connect, version } from "../src/index";
import { World } from "./world";

interface State {
  tool: "pen" | "eraser";
  typing: boolean;
}
type Events = { reaction: { emoji: string }; ping: null };

test("state and events have the types that the room was given", () => {
  const world = new World();
  const client: Client = connect({ environment: world.environment, url: "http://n1.test" });
  const room: Room<State, Events> = client.room<State, Events>("lobby", { state: { tool: "pen" } });

  const set: boolean = room.me.set({ typing: true });
  // @ts-expect-error: not a tool
  room.me.set({ tool: "hammer" });
  // @ts-expect-error: not in the state
  room.me.set({ colour: 1 });

  const sent: boolean = room.events.send("reaction", { emoji: "👍" });
  // @ts-expect-error: no such event
  room.events.send("reactoin", { emoji: "👍" });
  // @ts-expect-error: not its data
  room.events.send("reaction", 1);

  const offs = [
    room.events.on("reaction", ({ data, member }) => void [data.emoji satisfies string, member?.state?.tool satisfies State["tool"] | undefined]),
    room.presence.on("left", ({ reason, member }) => void [reason satisfies string, member.state?.typing satisfies boolean | undefined]),
    room.cursors.on(({ member, x }) => void [member.user.color satisfies number, x satisfies number]),
    room.on("rebuilt", ({ reason }) => void (reason satisfies string)),
    client.on("status", (status) => void name(status)),
  ];
  for (const off of offs) assert.equal(off(), undefined);
  assert.deepEqual([set, sent, typeof version], [true, false, "string"]);
  client.close();
});

/** A status is a closed union. */
function name(status: Status): string {
  switch (status.state) {
    case "connecting":
      return status.transport;
    case "connected":
      return status.node;
    case "reconnecting":
      return `${status.attempt} in ${status.retry_ms} ms: ${status.reason.why}`;
    case "closed":
      return status.reason.text;
  }
}
