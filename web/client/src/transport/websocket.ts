import type { WebSocketLike } from "../api";
import type { OpenSocket } from "../transport";

export const openWebSocket: OpenSocket = (env, url, protocol, events) => {
  let socket: WebSocketLike | null;
  const mute = () => {
    if (socket) socket.onopen = socket.onmessage = socket.onclose = socket.onerror = null;
  };
  try {
    socket = env.webSocket(url, [protocol]);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => events.open();
    socket.onmessage = ({ data }) => {
      if (typeof data === "string") events.text(data);
      else if (data instanceof ArrayBuffer) events.bytes(data);
    };
    // An error is always followed by a close.
    socket.onclose = ({ code, reason }) => {
      mute();
      events.closed(code, reason);
    };
  } catch (error) {
    // A page under a policy that forbids the address: the same as one that cannot be reached.
    socket = null;
    env.timer(() => events.closed(1006, String(error)), 0);
  }
  return {
    transport: "websocket",
    get buffered() {
      return socket?.bufferedAmount ?? 0;
    },
    send(data) {
      try {
        socket?.send(data);
      } catch {
        // Not open (any more): its end is told by `closed`.
      }
    },
    close(code, reason) {
      mute();
      socket?.close(code, reason);
    },
  };
};
