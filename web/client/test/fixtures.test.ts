/** The messages in web/protocol: the server's tests read the same files. */
import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { describe, test } from "node:test";
import type { DropReason, LeaveReason, RebuiltReason } from "../src/api";
import { verdict } from "../src/closing";
import { decodeCursors, encodeCursor, type CursorFrame } from "../src/frames";
import { parse, type ClientMessage, type JoinedMessage, type ServerMessage } from "../src/protocol";
import { World, member } from "./world";

type Fixture = { about: string; from: "client" | "server" } & (
  | { message: ClientMessage | ServerMessage }
  | { hex: string; meaning: { kind: number; full?: boolean; number: number; records: CursorFrame["records"] } }
);

const directory = join(process.cwd(), "../protocol");
/** Names of files that a test looked into, and not only parsed. */
const used = new Set<string>();
const fixturesIn = (directory: string) =>
  new Map(
    readdirSync(directory)
      .filter((name) => name.endsWith(".json"))
      .map((name) => [name.slice(0, -5), JSON.parse(readFileSync(join(directory, name), "utf8")) as Fixture]),
  );
const fixtures = fixturesIn(directory);
/** Those of the version before, frozen. */
const previous = fixturesIn(join(directory, "v1"));

function message<Type extends (ClientMessage | ServerMessage)["type"]>(name: string, type: Type) {
  const fixture = fixtures.get(name);
  used.add(name);
  assert.ok(fixture && "message" in fixture && fixture.message.type === type, `no fixture ${name}`);
  return fixture.message as Extract<ClientMessage | ServerMessage, { type: Type }>;
}

const known = {
  client: ["hello", "ping", "join", "update", "leave", "event", "cursor"],
  server: ["welcome", "pong", "joined", "snapshot", "presence", "event", "positions", "token", "left", "refused", "cursors", "pressure", "error"],
};

const page = readFileSync(join(process.cwd(), "../../docs/browser-protocol.md"), "utf8");
const v1 = page.slice(page.indexOf("# Part 1"), page.indexOf("# Part 2"));

/** The rows of the table that follows `heading` in the document, as cells. */
function table(heading: string): string[][] {
  const [, rows = ""] = /^\|--.*\n((?:\|.*\n)+)/m.exec(v1.slice(v1.indexOf(heading))) ?? [];
  return rows.trim().split("\n").map((row) => row.slice(1, -1).split("|").map((cell) => cell.trim().replaceAll("`", "")));
}

describe("the document", () => {
  test("says of each close code what the client does", () => {
    const rows = table("## Closing\n").flatMap(([codes = "", , back = ""]) => codes.split(", ").map((code) => [code, back] as const));
    assert.ok(rows.length >= 15);
    for (const [code, back] of rows) {
      const { retry, move } = verdict(code.startsWith("and") ? 4999 : Number(code), "");
      const words = { never: /^no\b/, minute: /^no, .*once a minute/, token: /^with a fresh token$/, at_once: /^at once/, spread: /^at once/, backoff: /^with back-off/ };
      assert.match(back, words[retry], code);
      assert.equal(move, back.endsWith("to another node"), code);
    }
  });

  test("has the reasons that the types have", () => {
    const names = (heading: string, column = 0) => table(heading).map((row) => row[column]).filter(Boolean).sort();
    type Own<Reason extends string, Client> = Record<Exclude<Reason, Client>, 1>;
    // Without those that the client itself says.
    const left = { closed: 1, timed_out: 1, node_lost: 1, kicked: 1, superseded: 1 } satisfies Own<LeaveReason, "unknown">;
    const refused = { too_big: 1, not_joined: 1, slow_link: 1, too_fast: 1 } satisfies Own<DropReason, "not_connected" | "bad_name" | "bad_data">;
    const rebuilt = { events_lost: 1, too_late: 1, token_expired: 1, token_invalid: 1, token_wrong_subject: 1 } satisfies Own<RebuiltReason, "superseded">;
    assert.deepEqual(names("### Changes"), Object.keys(left).sort());
    assert.deepEqual(names("An event that cannot be taken"), Object.keys(refused).sort());
    assert.deepEqual(names('{"type":"token"', 1), Object.keys(rebuilt).sort());
  });
});

describe("fixtures", () => {
  for (const [name, fixture] of fixtures) {
    if ("message" in fixture) {
      test(name, () => {
        assert.ok(known[fixture.from].includes(fixture.message.type));
        assert.deepEqual(parse(JSON.stringify(fixture.message)), fixture.message);
      });
    } else {
      test(name, () => {
        used.add(name);
        const { number, records, full, kind } = fixture.meaning;
        if (fixture.from === "client") {
          assert.equal(kind, 1);
          assert.equal(Buffer.from(encodeCursor(number, records)).toString("hex"), fixture.hex);
        } else {
          assert.equal(kind, 2);
          assert.deepEqual(decodeCursors(Uint8Array.from(Buffer.from(fixture.hex, "hex")).buffer), { number, records, full });
        }
      });
    }
  }

  test("there is one of every type", () => {
    for (const from of ["client", "server"] as const) {
      const types = [...fixtures.values()].flatMap((one) => (one.from === from && "message" in one ? [one.message.type] : []));
      assert.deepEqual([...new Set(types)].sort(), [...known[from]].sort());
    }
  });

  test("and of every type in the document", () => {
    const types = new Set([...v1.matchAll(/"type":"(\w+)"/g)].map(([, type]) => type));
    assert.deepEqual([...types].sort(), [...new Set([...known.client, ...known.server])].sort());
  });

  test("the client says what the fixtures say", async () => {
    const world = new World();
    const client = world.client({ token: "eyJhbGciOi", json: true });
    const { socket } = world;
    const { user, state } = message("join", "join");
    const room = client.room<Record<string, unknown>>("lobby", { user: user ?? {}, state: state as Record<string, unknown> });
    socket.welcome();
    assert.deepEqual(socket.last("hello"), message("hello", "hello"));
    assert.deepEqual({ ...socket.last("ping"), t: 123 }, message("ping", "ping"));
    assert.deepEqual(socket.last("join"), message("join", "join"));
    const { self } = message("joined", "joined");
    socket.join("lobby", [member("b")], { self });
    for (let i = 0; i < 5; i += 1) room.events.send("reaction", { emoji: "👍" });
    assert.deepEqual(socket.last("event"), message("event_send", "event"));
    room.me.setUser({ name: "Ada L." });
    room.me.set({ tool: "eraser" });
    room.cursors.set(1.5, -2);
    await world.frame();
    assert.deepEqual(socket.last("update"), message("update", "update"));
    assert.deepEqual({ ...socket.last("cursor"), t: 65_535 }, message("cursor", "cursor"));
    room.leave();
    assert.deepEqual(socket.last("leave"), message("leave", "leave"));
    client.close();
  });

  test("the client takes what the fixtures say", async () => {
    const world = new World();
    const client = world.client();
    const { socket } = world;
    const room = client.room("lobby");
    socket.open();
    socket.say(message("welcome", "welcome"));
    const { token: _, token_ms: __, ...joined } = message("joined", "joined");
    socket.say({ ...joined, token: "x", token_ms: 1 }, message("snapshot", "snapshot"));
    assert.equal(room.me.member?.user.name, "Ada");
    assert.deepEqual(room.others.map(({ away }) => away), [true]);
    socket.say(message("presence", "presence"));
    assert.equal(room.others.length, 2);
    const told: unknown[] = [];
    room.events.on("reaction", ({ data, self }) => told.push(data, self));
    room.cursors.on(({ x }) => told.push(x));
    socket.say(message("event", "event") as ServerMessage, message("cursors", "cursors"));
    assert.deepEqual(told, [{ emoji: "👍" }, true, 0.25]);
    const errors: unknown[] = [];
    room.on("error", ({ code }) => errors.push(code));
    room.on("dropped", (dropped) => errors.push(dropped));
    for (let i = 0; i < 5; i += 1) room.events.send("reaction", null);
    socket.say(message("error", "error"), message("refused", "refused"), message("token", "token"), message("pressure", "pressure"));
    assert.deepEqual(errors, ["bad_state", { name: "reaction", reason: message("refused", "refused").reason }]);
    // Its time is the fixture's, so that the fixture is its answer.
    const ping = socket.last("ping");
    socket.say({ ...message("pong", "pong"), t: ping.t });
    assert.equal(client.latency(), 0);
    socket.say(message("presence_left", "presence"));
    assert.equal(room.others.length, 1);
    socket.say(message("presence_unlisted", "presence"));
    assert.equal(room.count, 2 + 4501);
    socket.say(message("snapshot_unlisted", "snapshot"));
    assert.equal(room.count, 4500, "itself is one of them");
    socket.say(message("left_kicked", "left"));
    assert.equal(room.joined, false);
    assert.deepEqual(world.errors, []);
    client.close();
  });

  test("the client leaves as the fixtures say", () => {
    const world = new World();
    const client = world.client();
    world.socket.welcome();
    const old = client.room("lobby");
    world.socket.join();
    old.leave();
    const room = client.room("lobby");
    world.socket.say(message("left", "left"));
    world.socket.join();
    assert.equal(room.joined, true, "the answer was the old room's");
    client.close();
  });

  test("the client comes back as the fixtures say", async () => {
    const world = new World();
    const client = world.client({ persist: false });
    const { user, state, resume } = message("join_resume", "join");
    const room = client.room<Record<string, unknown>>("lobby", { user: user ?? {}, state: state as Record<string, unknown> });
    const told: unknown[] = [];
    room.on("recovered", () => told.push("recovered"));
    room.on("rebuilt", ({ reason }) => told.push(reason));
    room.events.on("reaction", ({ data }) => told.push(data));
    const { self } = message("joined", "joined");
    world.socket.welcome();
    const bare = { ...self, user: { ...self.user, color: 217 } };
    world.socket.join("lobby", [], { self: bare, token: resume?.token ?? "", positions: { "n1.1764000000000": "41" } });
    world.socket.say(message("positions", "positions"));
    world.socket.end();
    const wanted = message("join_resume", "join");
    const comeBack = async (seen: string, token: string | undefined, joined: JoinedMessage, ...missed: ServerMessage[]) => {
      await world.clock.advance(1_234);
      const { socket } = world;
      socket.welcome();
      const said = socket.last("join");
      const positions = { ...wanted.resume?.seen, "n1.1764000000000": seen };
      const resume = { ...wanted.resume, token, seen: positions };
      // With the colour that it had before.
      assert.deepEqual({ ...said, resume: { ...said.resume, away_ms: 1_234 } }, { ...wanted, user: { ...wanted.user, color: 217 }, resume });
      socket.say(joined, ...missed, { type: "snapshot", room: "lobby", version: "1", members: [joined.self], more: false });
      socket.end();
    };
    const recovered = message("joined_recovered", "joined");
    await comeBack("41", resume?.token, recovered, message("event", "event") as ServerMessage);
    await comeBack("43", recovered.token, message("joined_rebuilt", "joined"));
    assert.deepEqual(told, [{ emoji: "👍" }, "recovered", "too_late"]);
    client.close();
  });

  test("a client that comes back to a node of the version before goes on", async () => {
    const world = new World();
    const client = world.client({ persist: false });
    const room = client.room("lobby");
    const told: string[] = [];
    room.on("recovered", () => told.push("recovered"));
    const before = (name: string) => (previous.get(name) as { message: ServerMessage }).message;
    const newer = message("welcome", "welcome");
    assert.equal(newer.protocol, 2);
    assert.ok(!("protocol" in before("welcome")));
    const { self } = message("joined", "joined");
    for (const welcome of [newer, before("welcome"), newer]) {
      const { socket } = world;
      socket.open();
      socket.say(welcome);
      assert.equal(client.status.state, "connected");
      assert.equal(socket.last("hello").protocol, 2);
      socket.join("lobby", [], told.length > 0 || socket.last("join").resume ? { self, outcome: "recovered" } : { self });
      socket.end();
      await world.clock.advance(5_000);
    }
    assert.deepEqual(told, ["recovered", "recovered"]);
    assert.deepEqual(world.errors, []);
    client.close();
  });

  test("what the client says is what the version before knows, with more in it at most", () => {
    for (const [name, fixture] of previous) {
      const newest = fixtures.get(name);
      assert.ok(newest, name);
      if ("hex" in fixture) assert.deepEqual({ ...newest, about: "" }, { ...fixture, about: "" }, name);
      else if (fixture.from === "client") {
        assert.ok("message" in newest);
        assert.deepEqual({ ...newest.message, ...fixture.message }, newest.message, name);
        const more = Object.keys(newest.message).filter((field) => !(field in fixture.message));
        assert.deepEqual(more, name === "hello" ? ["protocol"] : [], name);
      }
    }
  });

  test("the client takes what a node of the version before says", async () => {
    const world = new World();
    const client = world.client();
    const { socket } = world;
    const room = client.room("lobby");
    socket.open();
    const say = (...names: string[]) => {
      for (const name of names) socket.say((previous.get(name) as { message: ServerMessage }).message);
    };
    say("welcome", "joined", "snapshot", "presence", "event", "positions", "cursors", "token", "pressure", "error", "refused", "presence_left", "presence_unlisted");
    assert.equal(room.me.member?.user.name, "Ada");
    assert.equal(room.count, 2 + 4501);
    say("left_kicked");
    assert.equal(room.joined, false);
    assert.deepEqual(world.errors, []);
    client.close();
  });

  test("no file is left out", () => {
    assert.deepEqual([...fixtures.keys()].filter((name) => !used.has(name)), []);
  });
});
