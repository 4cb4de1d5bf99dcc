// The tutorial's server with Node's `ws`, with rooms, and with Redis between several of it if REDIS is
// set: the usual answer to "how do I run more than one".
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { WebSocketServer } from "ws";

const [port] = process.argv.slice(2);
const rooms = new Map();
const deliver = (room, text) => {
  for (const socket of rooms.get(room) ?? []) if (socket.readyState === 1) socket.send(text);
};

let publish = deliver;
if (process.env.REDIS) {
  const { createClient } = await import("redis");
  const sender = createClient({ url: process.env.REDIS });
  const receiver = sender.duplicate();
  await Promise.all([sender.connect(), receiver.connect()]);
  await receiver.pSubscribe("room:*", (text, channel) => deliver(channel.slice(5), text));
  publish = (room, text) => void sender.publish(`room:${room}`, text);
}

const server = createServer();
new WebSocketServer({ server, perMessageDeflate: false }).on("connection", (socket, request) => {
  const room = new URL(request.url, "http://x").searchParams.get("room") ?? "";
  const identity = { sender: randomUUID(), color: Math.floor(Math.random() * 360) };
  if (!rooms.has(room)) rooms.set(room, new Set());
  rooms.get(room).add(socket);
  socket.on("message", (data) => {
    const message = JSON.parse(data);
    publish(room, JSON.stringify({ ...message, ...identity }));
  });
  socket.on("close", () => rooms.get(room).delete(socket));
});
server.listen(Number(port), "127.0.0.1", 4096);
