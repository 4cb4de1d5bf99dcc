"""The tutorial's server with uWebSockets, its handlers in Python: rooms are its own topics."""

import json
import random
import sys
import uuid

from socketify import App, OpCode


class Identity:
    def __init__(self, room):
        self.room = room
        self.stamp = {"sender": str(uuid.uuid4()), "color": random.randrange(360)}


def upgrade(response, request, context):
    identity = Identity(request.get_query("room") or "")
    key = request.get_header("sec-websocket-key")
    protocol = request.get_header("sec-websocket-protocol")
    extensions = request.get_header("sec-websocket-extensions")
    response.upgrade(key, protocol, extensions, context, identity)


def opened(socket):
    socket.subscribe(socket.get_user_data().room)


def said(socket, message, _opcode):
    identity = socket.get_user_data()
    stamped = {**json.loads(message), **identity.stamp}
    app.publish(identity.room, json.dumps(stamped, separators=(",", ":")), OpCode.TEXT)


app = App()
app.ws("/ws", {"upgrade": upgrade, "open": opened, "message": said, "compression": 0})
app.listen({"port": int(sys.argv[1]), "host": "127.0.0.1"})
# `app.run()` would turn asyncio's loop and poll this one from it without a pause; nothing here needs
# asyncio, so that uWebSockets' own loop can wait in the kernel as it does elsewhere.
app.loop.uv_loop.run()
