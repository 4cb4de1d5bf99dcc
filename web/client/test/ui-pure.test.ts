/** What the part that draws knows without a page: colours, names, addresses, slots, faces. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Member } from "../src/api";
import { roomOf } from "../src/ui/address";
import { CONTRAST_MIN, colors, contrast } from "../src/ui/color";
import { facesOf } from "../src/ui/faces";
import { type Matrix, apply, corners, intersect, invert, multiply } from "../src/ui/matrix";
import { friend } from "../src/ui/person";
import { NOWHERE, Names, Slots, decode, encode, isNowhere } from "../src/ui/slots";
import { reactionOf } from "../src/ui/sparks";
import { bytes, initials, nameOf, shown } from "../src/ui/text";

const rgb = (hex: string) => [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16) / 255) as [number, number, number];

test("every hue has a colour on which its text can be read", () => {
  const fills = new Set<string>();
  for (let hue = 0; hue < 360; hue += 1) {
    const { fill, text } = colors(hue);
    assert.ok(contrast(rgb(fill), rgb(text)) >= CONTRAST_MIN, `${hue}: ${fill} under ${text}`);
    fills.add(fill);
  }
  assert.ok(fills.size > 300, "hues can be told apart");
  assert.equal(contrast([1, 1, 1], [0, 0, 0]), 21);
  assert.ok(Math.abs(contrast(rgb("#777777"), [1, 1, 1]) - 4.48) < 0.01, "as WCAG's own example has it");
  for (const [odd, as] of [[-1, 359], [360, 0], [719.6, 0], [NaN, 0], ["red", 0], [null, 0]] as const) assert.equal(colors(odd), colors(as));
});

test("names of strangers are one line of bounded length", () => {
  const cases: [unknown, number, string][] = [
    ["Ada", 10, "Ada"],
    ["  Ada\n\tLovelace ", 20, "Ada Lovelace"],
    ["abcdefghij", 4, "abcd…"],
    ["\u202egnp.exe\u2066", 20, "gnp.exe"],
    ["\u0000\u0007", 20, ""],
    ["👩‍👩‍👧‍👦👩‍👩‍👧‍👦👩‍👩‍👧‍👦", 2, "👩‍👩‍👧‍👦👩‍👩‍👧‍👦…"],
    [12, 5, ""],
    [null, 5, ""],
    [{ toString: () => "x" }, 5, ""],
  ];
  for (const [given, max, expected] of cases) assert.equal(shown(given, max), expected);
  assert.ok(shown(`a${"\u0301".repeat(5_000)}`, 10).length <= 24 * 10, "marks heaped on a letter");
  assert.ok(shown("x".repeat(100_000), 200).length === 201);
  assert.equal(nameOf({ name: "" }), "Guest");
});

test("initials", () => {
  const cases = {
    "Ada Lovelace": "AL", ada: "A", "grace brewster hopper": "GH", "ada.lovelace@example.org": "AO", "": "G", "   ": "G", "…!": "G",
    "🦊 Fox": "🦊", "👩‍👩‍👧‍👦": "👩‍👩‍👧‍👦", "🇪🇺 Europe": "🇪🇺", "Ada 🦊": "A", "(Ada) Lovelace": "AL", "山田 太郎": "山太", "é́́ b": "É́́B", "أحمد محمد": "أم", "42": "4",
  };
  for (const [name, expected] of Object.entries(cases)) assert.equal(initials(name), expected, name);
});

test("a reaction is a short text at a place, and nothing else", () => {
  assert.deepEqual(reactionOf({ emoji: "🎉", x: 0.5, y: 2, more: 1 }), { emoji: "🎉", x: 0.5, y: 2 });
  const family = "👩‍👩‍👧‍👦";
  assert.equal(bytes(family), 25);
  assert.equal(reactionOf({ emoji: family, x: 0, y: 0 })?.emoji, family);
  const bad = [null, 1, "🎉", [], {}, { emoji: "🎉" }, { emoji: "", x: 0, y: 0 }, { emoji: "🎉", x: "0", y: 0 }, { emoji: "🎉", x: NaN, y: 0 },
    { emoji: "🎉".repeat(9), x: 0, y: 0 }, { emoji: "e".repeat(10_000), x: 0, y: 0 }, { emoji: {}, x: 0, y: 0 }, { emoji: "\u202e", x: 0, y: 0 }];
  for (const data of bad) assert.equal(reactionOf(data), null, JSON.stringify(data));
});

test("positions in slots come back as they went", () => {
  for (let slot = 0; slot <= 63; slot += 1) {
    for (const x of [-3.3, -0.1, 0, 0.25, 1, 4.3]) {
      const sent = encode(slot, { x, y: 0.5 });
      const found = decode({ x: Math.fround(sent.x), y: Math.fround(sent.y) });
      assert.ok(found && found.slot === slot && Math.abs(found.x - x) < 4e-5, `${slot} ${x} ${JSON.stringify(found)}`);
    }
    assert.equal(decode(encode(slot, { x: 1e9, y: 0 }))?.slot, slot);
    assert.equal(decode(encode(slot, { x: -1e9, y: 0 }))?.slot, slot);
  }
  for (const x of [-4, 64 * 8, NOWHERE.x, 1e9, NaN]) assert.equal(decode({ x, y: 0 }), null);
  assert.ok(isNowhere({ x: Math.fround(NOWHERE.x), y: Math.fround(NOWHERE.y) }));
});

test("a slot is used again only after all others", () => {
  const slots = new Slots();
  const first = Array.from({ length: 63 }, (_, n) => slots.of(`a${n}`));
  assert.deepEqual(first, Array.from({ length: 63 }, (_, n) => n + 1));
  assert.equal(slots.of("a7"), 8);
  assert.equal(slots.of("b"), 1);
  assert.equal(slots.of("a0"), 2);
  const names = new Names();
  names.learn("ada", [3, "table"]);
  assert.deepEqual([names.of("ada", 3), names.of("ada", 4), names.of("ben", 3)], ["table", undefined, undefined]);
  names.forget("ada");
  assert.equal(names.of("ada", 3), undefined);
});

test("matrices turn, scale and come back", () => {
  const turn: Matrix = { a: 0, b: 1, c: -1, d: 0, e: 10, f: 20 };
  assert.deepEqual(apply(turn, { x: 3, y: 4 }), { x: 6, y: 23 });
  const half: Matrix = { a: 0.5, b: 0, c: 0, d: 0.5, e: 1, f: 1 };
  assert.deepEqual(apply(multiply(turn, half), { x: 3, y: 4 }), apply(turn, apply(half, { x: 3, y: 4 })));
  const back = invert(multiply(turn, half));
  assert.ok(back);
  assert.deepEqual(apply(back, apply(multiply(turn, half), { x: 3, y: 4 })), { x: 3, y: 4 });
  assert.equal(invert({ a: 0, b: 0, c: 0, d: 1, e: 0, f: 0 }), null);
  assert.equal(invert({ a: NaN, b: 0, c: 0, d: 1, e: 0, f: 0 }), null);
  assert.deepEqual(corners(turn, 2, 1), [{ x: 10, y: 20 }, { x: 10, y: 22 }, { x: 9, y: 22 }, { x: 9, y: 20 }]);
  const box = (left: number, top: number, width: number, height: number) => ({ left, top, width, height });
  assert.deepEqual(intersect(box(0, 0, 10, 10), box(5, -5, 10, 10)), box(5, 0, 5, 5));
  assert.deepEqual(intersect(box(0, 0, 1, 1), box(5, 5, 1, 1)), box(5, 5, 0, 0));
});

test("a page's room is its address without query and hash, and never too long", () => {
  const at = (href: string) => roomOf(new URL(href) as unknown as Location);
  assert.equal(at("https://example.org/docs/a?x=1#y"), "https://example.org/docs/a");
  assert.equal(at("http://localhost:8080/"), "http://localhost:8080/");
  assert.equal(at("file:///home/ada/page.html"), "file:///home/ada/page.html");
  const long = at(`https://example.org/${"é".repeat(200)}`);
  assert.equal(bytes(long), 200);
  assert.match(long, /^https:\/\/example\.org\/%C3.*~[0-9a-f]{16}$/);
  assert.notEqual(long, at(`https://example.org/${"é".repeat(199)}e`));
  assert.equal(long, at(`https://example.org/${"é".repeat(200)}?again`));
});

test("a browser keeps its name and colour; one that may not store anything has some all the same", () => {
  const stored = new Map<string, string>();
  const storage = { getItem: (key: string) => stored.get(key) ?? null, setItem: (key: string, value: string) => void stored.set(key, value) };
  const first = friend(() => storage, () => 0.4);
  assert.match(first.name, /^[A-Z][a-z]+ [A-Z][a-z]+$/);
  assert.equal(first.color, 144);
  assert.deepEqual(friend(() => storage, () => 0.9), first);
  stored.set("cursormesh.name", "x".repeat(500)).set("cursormesh.color", "360").set("cursormesh.id", "<b>");
  const again = friend(() => storage, () => 0.9);
  assert.ok(again.name !== "x".repeat(500) && again.color === 324 && /^[a-z0-9]{16}$/.test(again.id));
  const forbidden = () => {
    throw new DOMException("no", "SecurityError");
  };
  assert.match(friend(forbidden).name, /^\w+ \w+$/);
  assert.match(friend(() => ({ getItem: () => null, setItem: forbidden })).name, /^\w+ \w+$/);
});

let joined_at = 0;
function member(id: string, more: { user?: string; name?: string; away?: boolean; state?: unknown } = {}): Member {
  joined_at += 1;
  return { id, user: { id: more.user ?? "", name: more.name ?? id, color: 1 }, state: more.state ?? null, node: "n1", joined_at, away: more.away ?? false };
}

test("a face per person, this page's own first, the others in the order in which they came", () => {
  const [ada, ben, adaAgain, me, nobody] = [member("a1", { user: "ada" }), member("b"), member("a2", { user: "ada" }), member("me"), member("n")];
  const faces = facesOf([adaAgain, nobody, ben, ada], me, [], 0, 5_000);
  assert.deepEqual(faces.map(({ member, self }) => [member.id, self]), [["me", true], ["a1", false], ["b", false], ["n", false]]);
  const two = facesOf([adaAgain], member("a0", { user: "ada" }), [], 0, 5_000);
  assert.deepEqual(two.map(({ member, self }) => [member.id, self]), [["a2", true]], "the own other tab is no other person");
});

test("who left stays a while where they stood; who is back never left", () => {
  const [ada, ben] = [member("a"), member("b")];
  const before = facesOf([ada, ben], null, [], 0, 5_000);
  const gone = facesOf([ben], null, before, 1_000, 5_000);
  assert.deepEqual(gone.map(({ member, left_at }) => [member.id, left_at]), [["a", 1_000], ["b", null]]);
  assert.deepEqual(facesOf([ben], null, gone, 5_999, 5_000).length, 2);
  assert.deepEqual(facesOf([ben], null, gone, 6_000, 5_000).map(({ member }) => member.id), ["b"]);
  assert.deepEqual(facesOf([ben, ada], null, gone, 3_000, 5_000).map(({ left_at }) => left_at), [null, null]);
});

test("a person is dim while none of their tabs has anybody at it", () => {
  const idle = { cursormesh: { idle: true } };
  const of = (...members: Member[]) => facesOf(members, null, [], 0, 0).map(({ dim }) => dim);
  assert.deepEqual(of(member("1", { away: true }), member("2", { state: idle }), member("3", { state: { cursormesh: { idle: "yes" } } })), [true, true, false]);
  assert.deepEqual(of(member("1", { user: "u", away: true }), member("2", { user: "u" })), [false]);
  assert.deepEqual(of(member("1", { user: "u", away: true }), member("2", { user: "u", state: idle })), [true]);
});
