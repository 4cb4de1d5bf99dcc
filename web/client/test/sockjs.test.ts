import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { openSockjs } from "../src/transport/sockjs";
import { World, seeded } from "./world";

/** A request that waits for the test's answer. */
interface Call {
  path: string;
  body: unknown;
  signal: AbortSignal;
  /** One whole answer. */
  answer(text: string, status?: number): void;
  /** A stream: the answer's headers; then `push`, `end`. */
  stream(): { push(text: string): void; end(): void };
}

/** Lets streams and promises of the runtime go on. */
const settle = () => new Promise<void>((resolve) => setImmediate(() => setImmediate(resolve)));

function open() {
  const world = new World();
  world.environment.random = seeded(1);
  const calls: Call[] = [];
  world.environment.fetch = (url, init) =>
    new Promise<Response>((resolve, reject) => {
      const signal = init.signal as AbortSignal;
      let controller: ReadableStreamDefaultController<Uint8Array> | null = null;
      const aborted = () => {
        const error = new DOMException("aborted", "AbortError");
        reject(error);
        controller?.error(error);
      };
      if (signal.aborted) return aborted();
      signal.addEventListener("abort", aborted);
      calls.push({
        path: url,
        body: init.body,
        signal,
        answer: (text, status = 200) => resolve(new Response(status === 204 ? null : text, { status })),
        stream() {
          resolve(new Response(new ReadableStream<Uint8Array>({ start: (one) => void (controller = one) })));
          return {
            push: (text) => controller?.enqueue(new TextEncoder().encode(text)),
            end: () => controller?.close(),
          };
        },
      });
    });
  const told: unknown[] = [];
  const socket = openSockjs(world.environment, "wss://n1.test/v1", "cursormesh.v1.json", {
    open: () => told.push("open"),
    text: (text) => told.push(text),
    bytes: () => told.push("bytes"),
    closed: (code, reason) => told.push([code, reason]),
  });
  const call = (end: string) => {
    const found = calls.filter(({ path }) => path.endsWith(`/${end}`)).at(-1);
    assert.ok(found, `no ${end}`);
    return found;
  };
  return { world, socket, calls, call, told };
}

describe("SockJS over fetch", () => {
  test("a session's address", () => {
    const { call } = open();
    assert.match(call("xhr_streaming").path, /^https:\/\/n1\.test\/v1\/sockjs\/\d{3}\/[a-z0-9]{28}\/xhr_streaming$/);
  });

  test("streams frames, also cut anywhere, and asks again when the answer ends", async () => {
    const { call, calls, told } = open();
    const first = call("xhr_streaming").stream();
    first.push(`${"h".repeat(2048)}\no\n`);
    first.push('a["x","{\\"é');
    first.push('\\"}"]\nh\n');
    await settle();
    assert.deepEqual(told, ["open", "x", '{"é"}']);
    first.end();
    await settle();
    assert.equal(calls.length, 2);
    assert.equal(calls[0]?.path, calls[1]?.path);
    call("xhr_streaming").stream().push('c[1012,"node is shutting down"]\n');
    await settle();
    assert.deepEqual(told.at(-1), [1012, "node is shutting down"]);
  });

  test("sends in order, one request at a time", async () => {
    const { socket, calls, call } = open();
    call("xhr_streaming").stream().push("o\n");
    await settle();
    socket.send("one");
    socket.send("two");
    socket.send("three");
    await settle();
    const sends = () => calls.filter(({ path }) => path.endsWith("xhr_send"));
    assert.deepEqual(sends().map(({ body }) => body), ['["one"]']);
    assert.equal(socket.buffered, 8);
    sends()[0]?.answer("", 204);
    await settle();
    assert.deepEqual(sends().map(({ body }) => body), ['["one"]', '["two","three"]']);
    assert.equal(socket.buffered, 0);
  });

  test("a stream that is held back becomes polling, in a new session", async () => {
    const { world, calls, call, told } = open();
    await world.clock.advance(3_000);
    await settle();
    assert.equal(calls[0]?.signal.aborted, true);
    const poll = call("xhr");
    assert.notEqual(poll.path.split("/").at(-2), calls[0]?.path.split("/").at(-2));
    poll.answer("o\n");
    await settle();
    call("xhr").answer('a["m"]\n');
    await settle();
    assert.deepEqual(told, ["open", "m"]);
  });

  test("an error ends it: on the way in", async () => {
    const { call, told } = open();
    call("xhr_streaming").answer("", 404);
    await settle();
    assert.equal((told[0] as [number, string])[0], 1006);
  });

  test("an error ends it: on the way out", async () => {
    const { socket, call, told } = open();
    call("xhr_streaming").stream().push("o\n");
    await settle();
    socket.send("one");
    await settle();
    call("xhr_send").answer("", 500);
    await settle();
    assert.equal((told.at(-1) as [number, string])[0], 1006);
  });

  test("close aborts what waits and tells nothing, but lets a send finish", async () => {
    const { world, socket, calls, call, told } = open();
    call("xhr_streaming").stream().push("o\n");
    await settle();
    socket.send("leave");
    await settle();
    socket.close(1000, "done");
    assert.equal(call("xhr_send").signal.aborted, false);
    await world.clock.advance(200);
    await settle();
    assert.equal(calls[0]?.signal.aborted, true);
    assert.deepEqual(told, ["open"]);
  });
});
