// The tutorial's server with Socket.IO, over WebSockets alone, and with its Redis adapter between
// several of it if REDIS is set.
import { createServer } from "node:http";
import { randomUUID } from "node:crypto";
import { Server } from "socket.io";

const [port] = process.argv.slice(2);
const options = { transports: ["websocket"], perMessageDeflate: false, serveClient: false };

if (process.env.REDIS) {
  const { createClient } = await import("redis");
  const { createAdapter } = await import("@socket.io/redis-adapter");
  const sender = createClient({ url: process.env.REDIS });
  const receiver = sender.duplicate();
  await Promise.all([sender.connect(), receiver.connect()]);
  options.adapter = createAdapter(sender, receiver);
}

const server = createServer();
const io = new Server(server, options);
io.on("connection", (socket) => {
  const room = socket.handshake.query.room ?? "";
  const identity = { sender: randomUUID(), color: Math.floor(Math.random() * 360) };
  socket.join(room);
  socket.on("move", (message) => io.to(room).emit("move", { ...message, ...identity }));
});
server.listen(Number(port), "127.0.0.1", 4096);
