#!/usr/bin/env python3
"""A second client of browser protocol v1, written from docs/browser-protocol.md alone, with nothing
but Python's standard library.

    v1_client.py HOST:PORT HOST:PORT

joins a room on both nodes, moves, says events, loses its connection on the first node and resumes on
the second. Exit code 0 and "ok" if every step was as the document says.
"""

import base64
import hashlib
import json
import os
import socket
import struct
import sys
import time

PATIENCE_S = 20
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class WebSocket:
    """As much of RFC 6455 as a client needs."""

    def __init__(self, address, path, subprotocol):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n"
                             "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                             f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n").encode())
        while b"\r\n\r\n" not in self.received:
            self.received += self.socket.recv(4096)
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        head = head.decode().lower()
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        assert head.startswith("http/1.1 101 "), head
        assert base64.b64encode(accept).decode().lower() in head, head
        assert f"sec-websocket-protocol: {subprotocol}" in head, head

    def send(self, opcode, payload):
        mask = os.urandom(4)
        length = len(payload)
        header = bytes([0x80 | opcode])
        if length <= 125:
            header += bytes([0x80 | length])
        elif length <= 0xffff:
            header += bytes([0x80 | 126]) + struct.pack(">H", length)
        else:
            header += bytes([0x80 | 127]) + struct.pack(">Q", length)
        self.socket.sendall(header + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload)))

    def receive(self):
        """The next data or close frame: (opcode, payload)."""
        while True:
            first, second = self.take(2)
            length = second & 0x7f
            if length == 126:
                length, = struct.unpack(">H", self.take(2))
            elif length == 127:
                length, = struct.unpack(">Q", self.take(8))
            payload = self.take(length)
            if first & 0xf == PING:
                self.send(PONG, payload)
            elif first & 0xf != PONG:
                return first & 0xf, payload

    def take(self, count):
        while len(self.received) < count:
            chunk = self.socket.recv(65536)
            assert chunk, "the connection ended"
            self.received += chunk
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def cut(self):
        """Goes without a word."""
        self.socket.close()


class Client:
    """One connection, in one room."""

    def __init__(self, address, room, resume=None):
        self.socket = WebSocket(address, "/v1", "cursormesh.v1")
        self.room, self.events, self.members, self.aliases, self.cursors = room, [], {}, {}, {}
        self.came, self.went = set(), set()
        self.seen = dict(resume["seen"]) if resume else {}
        self.say(type="hello", client="v1_client.py")
        self.welcome = self.wait("welcome")
        join = {"type": "join", "room": room, "user": {"name": "Py"}, "state": {"n": 1}}
        if resume:
            join["resume"] = resume
        self.say(**join)
        self.joined = self.wait("joined")
        self.id, self.token, self.number = self.joined["self"]["id"], self.joined["token"], self.joined["number"]
        if self.joined["outcome"] != "recovered":
            self.learn(self.joined["positions"])
        while self.wait("snapshot")["more"]:
            pass

    def say(self, **message):
        self.socket.send(TEXT, json.dumps(message).encode())

    def move(self, x, y):
        time_ms = int(time.monotonic() * 1000) % 65536
        self.socket.send(BINARY, struct.pack("<BBHIHff", 1, 0, 1, self.number, time_ms, x, y))

    def learn(self, positions):
        for origin, number in positions.items():
            self.seen[origin] = str(max(int(number), int(self.seen.get(origin, "0"))))

    def resume(self, away_ms):
        return {"token": self.token, "seen": self.seen, "away_ms": away_ms}

    def wait(self, kind, holds=lambda message: True):
        """Reads until a message of this type that `holds`."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            message = self.read()
            if message["type"] == kind and holds(message):
                return message
        raise AssertionError(f"no {kind}")

    def read(self):
        opcode, payload = self.socket.receive()
        if opcode == CLOSE:
            code = struct.unpack(">H", payload[:2])[0] if payload else None
            return {"type": "close", "code": code}
        if opcode == BINARY:
            kind, flags, count, number = struct.unpack_from("<BBHI", payload)
            assert (kind, number, len(payload)) == (2, self.number, 8 + 12 * count), payload
            for alias, _time_ms, x, y in struct.iter_unpack("<HHff", payload[8:]):
                self.cursors[self.aliases[alias]] = (x, y)
            return {"type": "cursors", "full": bool(flags & 1)}
        message = json.loads(payload)
        kind = message["type"]
        if kind == "snapshot":
            self.add(message["members"])
        elif kind == "presence":
            self.add(message.get("joined", []) + message.get("updated", []))
            self.came.update(member["id"] for member in message.get("joined", []))
            for left in message.get("left", []):
                self.went.add(left["id"])
                self.members.pop(left["id"], None)
        elif kind == "event":
            origin, number = message["at"]
            self.learn({origin: number})
            self.events.append(message["data"])
        elif kind == "token":
            self.token = message["token"]
        elif kind == "positions":
            self.learn(message["positions"])
        return message

    def add(self, members):
        for member in members:
            self.members[member["id"]] = member
            self.aliases[member["alias"]] = member["id"]


def main(first, second):
    witness = Client(second, "py")
    client = Client(first, "py")
    assert client.joined["outcome"] == "new", client.joined
    while client.id not in witness.members:
        witness.wait("presence")
    while witness.id not in client.members:
        client.wait("presence")
    assert witness.members[client.id]["state"] == {"n": 1}

    client.move(1.5, -2.0)
    while witness.cursors.get(client.id) != (1.5, -2.0):
        witness.wait("cursors")

    # Until it arrives: both nodes know of each other's interest then.
    while "hello" not in client.events:
        witness.say(type="event", room="py", name="chat", data="hello")
        witness.wait("event")
        client.say(type="ping", t=1)
        client.wait("pong")
        time.sleep(0.05)
    client.say(type="event", room="py", name="chat", data="mark")
    for side in (client, witness):
        while "mark" not in side.events:
            side.read()
    witness.say(type="event", room="py", name="chat", data="last")
    while "last" not in client.events:
        client.read()

    client.socket.cut()
    witness.wait("presence", lambda diff: any(
        member["id"] == client.id and member["away"] for member in diff.get("updated", [])))
    for data in ("missed 1", "missed 2"):
        witness.say(type="event", room="py", name="chat", data=data)
    witness.came.clear()
    again = Client(second, "py", client.resume(500))
    assert again.joined["outcome"] == "recovered", again.joined
    assert again.id == client.id
    assert again.joined["self"]["joined_at"] == client.joined["self"]["joined_at"]
    while len(again.events) < 2:
        again.read()
    assert again.events == ["missed 1", "missed 2"], again.events
    while witness.members[client.id]["away"]:
        witness.wait("presence")
    assert client.id not in witness.came | witness.went, "somebody saw it go or come"

    again.say(type="leave", room="py")
    assert again.wait("left")["reason"] == "closed"
    while client.id in witness.members:
        witness.wait("presence")
    print("ok")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
