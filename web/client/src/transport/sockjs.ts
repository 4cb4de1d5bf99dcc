/**
 * SockJS as its protocol describes it, over `fetch`: messages come in one long streamed answer, or,
 * where something on the way holds that back, with one answer each; they go out one request at a
 * time, in order. Loaded only when WebSocket fails.
 */
import type { Environment } from "../api";
import type { OpenSocket } from "../transport";

/** A stream that shows nothing for this long is held back on its way: a new session polls. */
const STREAM_MS = 3_000;
const SERVERS = 1_000;

export const openSockjs: OpenSocket = (env, url, _protocol, events) => {
  const base = `${url.replace(/^ws/, "http").replace(/[?#].*$/, "").replace(/\/$/, "")}/sockjs`;
  const stop = new AbortController();
  let session = newSession(env, base);
  let opened = false;
  let closed = false;
  let queue: string[] = [];
  let queued = 0;
  let sending = false;

  const end = (code: number, reason: string) => {
    if (closed) return;
    closed = true;
    stop.abort();
    events.closed(code, reason);
  };
  const post = (path: string, signal: AbortSignal, body?: string) =>
    env.fetch(`${session}/${path}`, { method: "POST", body, signal, credentials: "omit", headers: { "content-type": "text/plain" } });

  /** One frame per line: `o` open, `h` heartbeat, `a` messages, `c` close. */
  const read = (line: string) => {
    if (closed) return;
    if (line === "o") {
      opened = true;
      events.open();
    } else if (line.startsWith("a")) {
      for (const text of JSON.parse(line.slice(1)) as string[]) if (!closed) events.text(text);
    } else if (line.startsWith("c")) {
      const [code, reason] = JSON.parse(line.slice(1)) as [number, string];
      end(code, reason);
    }
  };

  /** Streams until the answer ends; false if nothing came through in time. */
  const stream = async (): Promise<boolean> => {
    const patience = new AbortController();
    const abort = () => patience.abort();
    stop.signal.addEventListener("abort", abort);
    let seen = false;
    const cancel = env.timer(() => seen || abort(), STREAM_MS);
    try {
      const answer = await post("xhr_streaming", patience.signal);
      if (!answer.ok || !answer.body) throw new Error(`SockJS answered ${answer.status}`);
      const reader = answer.body.getReader();
      const decoder = new TextDecoder();
      let rest = "";
      for (;;) {
        const { done, value } = await reader.read();
        if (done) return true;
        seen = true;
        const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
        rest = lines.pop() ?? "";
        for (const line of lines) read(line);
      }
    } catch (error) {
      if (!seen && patience.signal.aborted && !closed) return false;
      throw error;
    } finally {
      cancel();
      stop.signal.removeEventListener("abort", abort);
    }
  };

  const poll = async (): Promise<void> => {
    const answer = await post("xhr", stop.signal);
    if (!answer.ok) throw new Error(`SockJS answered ${answer.status}`);
    for (const line of (await answer.text()).split("\n")) read(line);
  };

  const receive = async () => {
    let streams = true;
    try {
      while (!closed) {
        if (!streams) await poll();
        else if (!(await stream())) {
          streams = false;
          // The first session has a receiver on the server; a new one starts clean.
          if (!opened) session = newSession(env, base);
        }
      }
    } catch (error) {
      end(1006, String(error));
    }
  };

  const flush = async () => {
    sending = true;
    try {
      while (queue.length > 0 && !closed) {
        const batch = queue;
        queue = [];
        queued = 0;
        const answer = await post("xhr_send", stop.signal, JSON.stringify(batch));
        if (!answer.ok) throw new Error(`SockJS answered ${answer.status}`);
      }
    } catch (error) {
      // Whether it arrived is unknown: only a new connection is certain.
      end(1006, String(error));
    }
    sending = false;
  };

  void receive();
  return {
    transport: "sockjs",
    get buffered() {
      return queued;
    },
    send(data) {
      if (typeof data !== "string" || closed) return;
      queue.push(data);
      queued += data.length;
      if (!sending) void flush();
    },
    close() {
      // What was just sent (a leave) still goes.
      const mute = () => {
        closed = true;
        stop.abort();
      };
      if (!sending) return mute();
      events = { open() {}, text() {}, bytes() {}, closed() {} };
      env.timer(mute, 200);
    },
  };
};

function newSession(env: Environment, base: string): string {
  const server = String(Math.floor(env.random() * SERVERS)).padStart(3, "0");
  const id = Array.from({ length: 4 }, () => Math.floor(env.random() * 2 ** 32).toString(36).padStart(7, "0")).join("");
  return `${base}/${server}/${id}`;
}
