/** The hooks: what they give, what they render again for, and when they open and close what. */
import "./dom";
import assert from "node:assert/strict";
import { test } from "node:test";
import { useEffect, useState } from "react";
import { connect } from "../src/index";
import {
  RoomProvider,
  roomHooks,
  useBroadcast,
  useClient,
  useConnectionStatus,
  useEvent,
  useMyPresence,
  useOther,
  useOthers,
  useRoom,
  useSelf,
} from "../src/react";
import { Page, h, version } from "./react-page";
import type { ServerMessage } from "../src/protocol";
import { member, type FakeSocket } from "./world";

const ada = member("ada", { alias: 1, state: { tool: "pen", step: 0 } });
const bo = member("bo", { alias: 2, state: { tool: "pen", step: 0 } });

/** What `socket` said of rooms, in order. */
const said = (socket: FakeSocket) =>
  socket.sent.flatMap((one) => (Array.isArray(one) || (one.type !== "join" && one.type !== "leave") ? [] : [`${one.type} ${one.room}`]));

/** The lobby is joined, with Ada and Bo in it. */
const joined = (page: Page) =>
  page.act(() => {
    page.world.socket.welcome();
    page.world.socket.join("lobby", [ada, bo]);
  });

/** A cursor frame of room number 7: of `alias`, at (1, 2). */
const moved = (alias: number) => `0200010007000000${alias.toString(16).padStart(2, "0")}0000000000803f00000040`;

console.log(`# React ${version}`);

test("components render for what they show, and not for what they do not", async (t) => {
  const page = new Page(t);
  const { count } = page.counts;
  const Ids = () => (count("ids"), h("i", null, useOthers((others) => others.map(({ id }) => id)).join()));
  const Everyone = () => (count("everyone"), h("i", null, useOthers().length));
  const Tool = ({ id }: { id: string }) => (count(`tool of ${id}`), h("i", null, String(useOther(id, ({ state }) => state?.tool))));
  const Step = ({ id }: { id: string }) => (count(`step of ${id}`), h("i", null, String(useOther(id, ({ state }) => state?.step))));
  const User = () => (count("user"), h("i", null, useOther("ada", ({ user }) => user)?.name));
  const Self = () => (count("self"), h("i", null, useSelf()?.id));
  const Mine = () => (count("mine"), h("i", null, JSON.stringify(useMyPresence()[0])));
  const Status = () => (count("status"), h("i", null, useConnectionStatus().state));
  const Heard = () => (count("heard"), useEvent("said", () => {}), useBroadcast(), h("i", null, useRoom()?.name));
  const all = [Ids, Everyone, User, Self, Mine, Status, Heard];
  const tree = page.room([...all.map((one, key) => h(one, { key })), ...["ada", "bo"].flatMap((id) => [h(Tool, { key: `t${id}`, id }), h(Step, { key: `s${id}`, id })])]);
  await page.render(tree);
  page.counts.take();
  await joined(page);
  assert.deepEqual(page.counts.take(), {
    ids: 1, everyone: 1, user: 1, self: 1, status: 1, "tool of ada": 1, "step of ada": 1, "tool of bo": 1, "step of bo": 1,
  });
  assert.equal(page.text, "ada,bo" + "2" + "ada" + "me" + "{}" + "connected" + "lobby" + "pen0pen0");

  const heard: number[] = [];
  const { socket } = page.world;
  await page.act(() => {
    for (let i = 0; i < 100; i += 1) socket.bytes(moved(1 + (i % 2)));
  });
  assert.deepEqual(page.counts.take(), {}, "100 cursors moved");

  await page.act(() => socket.say({ type: "presence", room: "lobby", version: "2", updated: [{ ...bo, state: { tool: "pen", step: 1 } }] }));
  assert.deepEqual(page.counts.take(), { everyone: 1, "step of bo": 1 }, "one field of one member's state");

  await page.act(() => socket.say({ type: "presence", room: "lobby", version: "3", updated: [{ ...ada, user: { ...ada.user }, node: "n2" }] }));
  assert.deepEqual(page.counts.take(), { everyone: 1 }, "nothing that anybody selects");

  await page.act(() => socket.say({ type: "event", room: "lobby", from: "ada", name: "said", data: 1, at: ["n1", "1"] }));
  assert.deepEqual(page.counts.take(), {}, "an event");

  await page.act(() => socket.say({ type: "presence", room: "lobby", version: "4", joined: [member("cy", { alias: 3 })] }));
  assert.deepEqual(page.counts.take(), { ids: 1, everyone: 1 }, "somebody came");

  await page.act(() => socket.say({ type: "presence", room: "lobby", version: "5", left: [{ id: "bo", reason: "closed" }] }));
  assert.deepEqual(page.counts.take(), { ids: 1, everyone: 1, "tool of bo": 1, "step of bo": 1 }, "somebody left");
  assert.equal(page.text, "ada,cy" + "2" + "ada" + "me" + "{}" + "connected" + "lobby" + "pen0nullnull");
  assert.deepEqual(heard, []);
});

test("a selector that is new in each render keeps an equal selection the same object", async (t) => {
  const page = new Page(t);
  const seen: unknown[] = [];
  let again = () => {};
  const Names = () => {
    const [, set] = useState(0);
    again = () => set((n) => n + 1);
    const names = useOthers((others) => others.map(({ user }) => user.name));
    seen.push(names);
    return null;
  };
  await page.render(page.room(h(Names)));
  await joined(page);
  await page.act(() => again());
  await page.act(() => page.world.socket.say({ type: "presence", room: "lobby", version: "2", updated: [{ ...bo, state: null }] }));
  await page.act(() => again());
  const filled = seen.filter((names) => (names as string[]).length > 0);
  assert.equal(new Set(filled).size, 1);
  assert.deepEqual(filled, [["ada", "bo"], ["ada", "bo"], ["ada", "bo"]]);
});

test("a selector that closes over something new is asked anew, and isEqual decides", async (t) => {
  const page = new Page(t);
  const Of = ({ id }: { id: string }) => (page.counts.count("of"), h("i", null, useOthers((others) => others.find((one) => one.id === id)?.node ?? "")));
  const Steps = () => (page.counts.count("steps"), h("b", null, useOthers((others) => others.map(({ state }) => Number(state?.step)), (a, b) => a.length === b.length).join()));
  await page.render(page.room([h(Of, { key: 1, id: "ada" }), h(Steps, { key: 2 })]));
  await joined(page);
  assert.equal(page.text, "n1" + "0,0");
  await page.render(page.room([h(Of, { key: 1, id: "nobody" }), h(Steps, { key: 2 })]));
  page.counts.take();
  await page.act(() => page.world.socket.say({ type: "presence", room: "lobby", version: "2", updated: [{ ...bo, state: { step: 9 } }] }));
  assert.deepEqual(page.counts.take(), {});
  assert.equal(page.text, "0,0");
});

test("under StrictMode there is one connection, one join and no leave", async (t) => {
  const page = new Page(t);
  const List = () => h("i", null, useOthers().map(({ id }) => id).join());
  await page.strict(page.room(h(List), { room: { user: { name: "Me" } } }));
  await joined(page);
  await page.later();
  assert.equal(page.world.sockets.length, 1);
  assert.deepEqual(said(page.world.socket), ["join lobby"]);
  assert.deepEqual(page.world.socket.last("join").user, { name: "Me" });
  assert.equal(page.text, "ada,bo");
  await page.unmount();
  assert.deepEqual(said(page.world.socket), ["join lobby", "leave lobby"]);
  assert.equal(page.world.socket.closed?.code, 1000);
  assert.equal(page.world.sockets.length, 1);
});

test("another name leaves the one room and enters the other on the same connection", async (t) => {
  const page = new Page(t);
  const List = () => h("i", null, `${useRoom()?.name}: ${useOthers().map(({ id }) => id)}`);
  await page.strict(page.room(h(List)));
  await joined(page);
  assert.equal(page.text, "lobby: ada,bo");
  await page.strict(page.room(h(List), { room: { name: "kitchen" } }));
  assert.equal(page.text, "kitchen: ", "nobody of the old room is shown in the new one");
  assert.deepEqual(said(page.world.socket).sort(), ["join kitchen", "join lobby", "leave lobby"]);
  await page.act(() => page.world.socket.join("kitchen", [ada], { number: 8 }));
  assert.equal(page.text, "kitchen: ada");
  assert.equal(page.world.sockets.length, 1);
});

test("two providers of one name share the room; it is left with the last", async (t) => {
  const page = new Page(t);
  const rooms = new Set<unknown>();
  const Name = () => {
    const room = useRoom();
    if (room) rooms.add(room);
    return h("i", null, useOthers().length);
  };
  const two = (first: boolean, second: boolean) =>
    page.client([first && h(RoomProvider, { key: 1, name: "lobby" }, h(Name)), second && h(RoomProvider, { key: 2, name: "lobby" }, h(Name))]);
  await page.render(two(true, true));
  await joined(page);
  assert.equal(page.text, "22");
  await page.render(two(false, true));
  assert.deepEqual(said(page.world.socket), ["join lobby"]);
  await page.render(two(true, false));
  assert.deepEqual(said(page.world.socket), ["join lobby"], "one came as the other went");
  assert.equal(page.text, "2", "what comes later shows at once who is there");
  assert.equal(rooms.size, 1);
  await page.render(two(false, false));
  assert.deepEqual(said(page.world.socket), ["join lobby", "leave lobby"]);
  assert.equal(page.world.socket.closed, null, "the client stays with its provider");
});

test("another address is another connection; a token function is always the newest", async (t) => {
  const page = new Page(t);
  const asked: string[] = [];
  const tree = (url: string, token: string) => page.room(null, { client: { url, token: () => (asked.push(token), token) } });
  await page.render(tree("http://n1.test", "a"));
  await page.render(tree("http://n1.test", "b"));
  assert.equal(page.world.sockets.length, 1);
  await page.act(() => page.world.socket.end());
  await page.act(() => page.world.clock.advance(2_000));
  assert.deepEqual([page.world.sockets.length, asked], [2, ["a", "b"]]);
  await page.act(() => page.world.socket.welcome());
  const old = page.world.socket;
  await page.render(tree("http://n2.test", "b"));
  assert.equal(old.closed?.code, 1000);
  assert.match(page.world.socket.url, /n2/);
});

test("a client of the page's own is used and stays open", async (t) => {
  const page = new Page(t);
  const client = connect({ url: "http://n1.test", environment: page.world.environment, nearest: false });
  let given: unknown;
  const Client = () => ((given = useClient()), h("i", null, useConnectionStatus().state));
  await page.strict(page.room(h(Client), { client: { client } }));
  await joined(page);
  assert.equal(given, client);
  assert.equal(page.text, "connected");
  await page.unmount();
  assert.deepEqual(said(page.world.socket), ["join lobby", "leave lobby"]);
  assert.equal(page.world.socket.closed, null);
  client.close();
});

test("the own presence is shown as soon as it is set, by whomever, and its setter stays the same", async (t) => {
  const page = new Page(t);
  const setters = new Set<unknown>();
  let set: (change: Record<string, unknown>) => boolean = () => false;
  let room: ReturnType<typeof useRoom> = null;
  const Mine = () => {
    const [state, setter] = useMyPresence();
    room = useRoom();
    set = setter;
    setters.add(setter);
    // Before there is a room: effects below a provider run before its own.
    useEffect(() => void setter({ early: true }), [setter]);
    return h("i", null, JSON.stringify(state));
  };
  const Self = () => (page.counts.count("self"), h("b", null, JSON.stringify(useSelf(({ user, state }) => [user.name, state]))));
  await page.render(page.room([h(Mine, { key: 1 }), h(Self, { key: 2 })], { room: { state: { tool: "pen" }, user: { name: "Me" } } }));
  assert.equal(page.text, '{"tool":"pen","early":true}null');
  await page.act(() => page.world.socket.welcome());
  assert.deepEqual(page.world.socket.last("join").state, { tool: "pen", early: true });
  await page.act(() => page.world.socket.join("lobby", [], { self: member("me", { alias: 99, state: { tool: "pen", early: true } }) }));

  await page.act(() => void assert.equal(set({ tool: "brush", early: undefined }), true));
  assert.equal(page.text, '{"tool":"brush"}' + '["Me",{"tool":"brush"}]');
  assert.deepEqual(page.world.socket.all("update"), [], "shown before it is sent");
  await page.act(() => void room?.me.set({ step: 1 }));
  assert.equal(page.text, '{"tool":"brush","step":1}' + '["Me",{"tool":"brush","step":1}]');
  page.counts.take();
  await page.act(() => void set({ step: 1 }));
  assert.deepEqual(page.counts.take(), {});
  await page.act(() => void assert.equal(set({ step: 1n }), false, "what cannot be sent"));
  assert.deepEqual(page.counts.take(), {});
  await page.act(() => page.world.clock.advance(100));
  assert.deepEqual(page.world.socket.all("update").map(({ state }) => state), [{ tool: "brush", step: 1 }]);
  await page.act(() => void room?.me.setUser({ name: "Myself" }));
  assert.equal(page.text, '{"tool":"brush","step":1}' + '["Myself",{"tool":"brush","step":1}]');
  assert.equal(setters.size, 1);
});

test("another user prop is sent, an equal one is not", async (t) => {
  const page = new Page(t);
  const as = (name: string) => page.room(null, { client: { user: { color: 10, name: "Anyone" } }, room: { user: { name } } });
  await page.render(as("Ada"));
  await joined(page);
  assert.deepEqual(page.world.socket.last("join").user, { color: 10, name: "Ada" });
  await page.render(as("Ada"));
  await page.act(() => page.world.clock.advance(100));
  assert.deepEqual(page.world.socket.all("update"), []);
  await page.render(as("Countess"));
  await page.act(() => page.world.clock.advance(100));
  assert.deepEqual(page.world.socket.all("update").map(({ user }) => user?.name), ["Countess"]);
});

test("events reach the newest handler, and are sent by a function that stays the same", async (t) => {
  const page = new Page(t);
  const heard: string[] = [];
  const senders = new Set<ReturnType<typeof useBroadcast<Record<string, unknown>>>>();
  const Ear = ({ tag }: { tag: string }) => {
    useEvent<{ text: string }>("said", ({ data, from, self }) => void heard.push(`${tag}: ${data.text} of ${from}${self ? ", me" : ""}`));
    senders.add(useBroadcast());
    return null;
  };
  await page.render(page.room(h(Ear, { tag: "a" })));
  const [send] = [...senders];
  assert.equal(send?.("said", { text: "too early" }), false);
  await joined(page);
  const event = (n: string, from: string): ServerMessage => ({ type: "event", room: "lobby", from, name: "said", data: { text: n }, at: ["n1", n] });
  await page.act(() => page.world.socket.say(event("1", "ada")));
  await page.render(page.room(h(Ear, { tag: "b" })));
  await page.act(() => page.world.socket.say(event("2", "me")));
  assert.deepEqual(heard, ["a: 1 of ada", "b: 2 of me, me"]);
  assert.equal(send?.("said", { text: "hello" }), true);
  assert.deepEqual(page.world.socket.last("event").data, { text: "hello" });
  assert.equal(senders.size, 1);
  await page.unmount();
  assert.equal(send?.("said", { text: "too late" }), false);
});

test("the status follows the connection", async (t) => {
  const page = new Page(t);
  const Status = () => (page.counts.count("status"), h("i", null, useConnectionStatus().state));
  await page.render(page.client(h(Status)));
  assert.equal(page.text, "connecting");
  assert.deepEqual(page.counts.take(), { status: 2 }, "the one without a client, and the one that it has");
  await page.act(() => page.world.socket.welcome());
  assert.equal(page.text, "connected");
  await page.act(() => page.world.socket.end());
  assert.equal(page.text, "reconnecting");
});

test("who is removed sees nobody any more, and enters anew where the provider is mounted again", async (t) => {
  const page = new Page(t);
  const List = () => h("i", null, `${useRoom()?.name}: ${useOthers().length}`);
  await page.render(page.room(h(List)));
  await joined(page);
  await page.act(() => page.world.socket.say({ type: "left", room: "lobby", reason: "kicked" }));
  assert.equal(page.text, "undefined: 0");
  await page.later();
  assert.deepEqual(said(page.world.socket), ["join lobby"], "it does not come back by itself");
  await page.render(page.client(h(RoomProvider, { key: "again", name: "lobby" }, h(List))));
  assert.deepEqual(said(page.world.socket), ["join lobby", "join lobby"]);
  await page.act(() => page.world.socket.join("lobby", [ada]));
  assert.equal(page.text, "lobby: 1");
});

test("a hook without its provider says which one it needs; an address that is none is told on mounting", async (t) => {
  const page = new Page(t);
  const failing = async (hook: () => unknown, tree: (node: ReturnType<typeof h>) => Parameters<Page["render"]>[0], words: RegExp) => {
    const Lost = () => (hook(), null);
    await assert.rejects(page.render(tree(h(Lost))), words);
    await page.unmount();
  };
  const hooks: Record<string, () => unknown> = {
    useOthers, useSelf, useMyPresence, useRoom, useBroadcast, useOther: () => useOther("x"), useEvent: () => useEvent("x", () => {}),
  };
  for (const [name, hook] of Object.entries(hooks)) {
    await failing(hook, (node) => page.client(node), new RegExp(`${name} needs a <RoomProvider> around it`));
  }
  await failing(useConnectionStatus, (node) => node, /useConnectionStatus needs a <CursormeshProvider> around it/);
  await failing(() => {}, (node) => h(RoomProvider, { name: "lobby" }, node), /RoomProvider needs a <CursormeshProvider> around it/);
  await assert.rejects(page.render(page.client(null, { url: "http://" })), /not an address/);
  await page.unmount();
  assert.ok(page.complaints.every((words) => /needs a|error occurred|recreate|Error/i.test(words)), page.complaints.join("\n"));
  page.complaints.length = 0;
});

test("hooks know the types that a room's hooks were made for", () => {
  interface State { tool: "pen" | "eraser" }
  const typed = roomHooks<State, { reaction: { emoji: string }; ping: null }>();
  const Typed = () => {
    const [mine, set] = typed.useMyPresence();
    const send = typed.useBroadcast();
    typed.useEvent("reaction", ({ data, member }) => void [data.emoji satisfies string, member?.state?.tool satisfies State["tool"] | undefined]);
    const tools = typed.useOthers((others) => others.map(({ state }) => state?.tool));
    tools satisfies (State["tool"] | undefined)[];
    typed.useOther("x", ({ state }) => state?.tool) satisfies State["tool"] | null | undefined;
    typed.useSelf()?.state?.tool satisfies State["tool"] | undefined;
    mine.tool satisfies State["tool"] | undefined;
    set({ tool: "pen" });
    send("ping", null);
    // @ts-expect-error: not a tool
    set({ tool: "hammer" });
    // @ts-expect-error: no such event
    send("pong", null);
    // @ts-expect-error: not its data
    send("reaction", { emoji: 1 });
    return null;
  };
  assert.equal(typeof Typed, "function");
  assert.equal(typed.useOthers, useOthers);
});
