"""The servers that are compared: how each is started, and when it is ready."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
BINARIES = TARGET / "release"
# Where the Python packages of a peer are installed.
VENV = TARGET / "bench-venv"
TICK_MS = 16
READY_SECONDS = 20


@dataclass(frozen=True)
class System:
    """A server to compare: what is said of it, how it is started, what it needs installed."""

    label: str
    # own, floor or peer
    kind: str
    # what is spoken with it: see `cursormesh load --help`
    protocol: str
    start: Callable
    nodes: int = 1
    needs: tuple = ()
    encrypted: bool = False
    # Shapes it has no chance with on two processors; trying takes minutes and says nothing.
    beyond: tuple = ()
    note: str = ""
    # what carries it: see `cursormesh load --help`; others than WebSockets are measured in shapes that
    # name them
    transport: str = "websocket"


class DoesNotServe(Exception):
    pass


class Server:
    """Processes that serve, and how to reach them."""

    def __init__(self, commands, urls, env=None, ready=None):
        self.urls = urls
        self.ready = ready
        self.log = tempfile.TemporaryFile()
        self.processes = []
        environment = {**os.environ, **(env or {})}
        for command in commands:
            process = subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
            self.processes.append(process)

    def wait(self):
        """Returns once every address answers and `ready`, if there is one, is true."""
        end = time.monotonic() + READY_SECONDS
        questions = [lambda url=url: answers(url) for url in self.urls]
        for question in [*questions, *([self.ready] if self.ready else [])]:
            while not question():
                if time.monotonic() > end or any(one.poll() is not None for one in self.processes):
                    raise DoesNotServe(f"does not serve: {self.tail()}")
                time.sleep(0.05)

    def tail(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:].strip()

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def answers(url):
    host, port = url.split("://")[1].split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
        return True
    except OSError:
        return False


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def addresses(ports):
    return [f"ws://127.0.0.1:{port}" for port in ports]


def own(scratch, nodes):
    binary = str(BINARIES / "cursormesh")
    if nodes == 1:
        ports = free_ports(1)
        command = [binary, "dev", "--port", str(ports[0]), "--log-level", "warn"]
        return Server([command], addresses(ports))
    ports = free_ports(2 * nodes)
    names = [f"n{index + 1}" for index in range(nodes)]
    lines = ['cluster = "bench"']
    for name, web, mesh in zip(names, ports[:nodes], ports[nodes:]):
        lines.append(f'[[node]]\nname = "{name}"\nweb = ["127.0.0.1:{web}"]\nmesh = "127.0.0.1:{mesh}"')
    config = scratch / "cluster.toml"
    config.write_text("\n".join(lines) + "\n")
    commands = [
        [binary, "serve", "--config", str(config), "--node", name, "--log-level", "warn"] for name in names
    ]

    def ready():
        wait = str(READY_SECONDS)
        urls = [f"http://127.0.0.1:{port}" for port in ports[:nodes]]
        asked = [[binary, "status", "--url", url, "--wait", wait] for url in urls]
        return all(subprocess.run(one, capture_output=True).returncode == 0 for one in asked)

    return Server(commands, addresses(ports[:nodes]), ready=ready)


def own_encrypted(scratch, _nodes):
    subprocess.run([str(BINARIES / "certificate"), str(scratch)], check=True)
    (port,) = free_ports(1)
    command = [str(BINARIES / "cursormesh"), "dev", "--port", str(port), "--log-level", "warn"]
    command += ["--web-tls-certificate", str(scratch / "web.pem"), "--web-tls-key", str(scratch / "web.key")]
    return Server([command], [f"wss://127.0.0.1:{port}"])


def floor(_scratch, _nodes):
    (port,) = free_ports(1)
    command = [str(BINARIES / "floor"), f"127.0.0.1:{port}", str(TICK_MS)]
    return Server([command], addresses([port]))


def node_js(script):
    """Node processes, with Redis between them if there are several."""

    def start(_scratch, nodes):
        ports = free_ports(nodes + 1)
        redis, env, commands = ports.pop(), {}, []
        if nodes > 1:
            quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
            commands.append(["redis-server", "--port", str(redis), *quiet])
            env["REDIS"] = f"redis://127.0.0.1:{redis}"
        commands += [["node", str(PEERS / script), str(port)] for port in ports]
        return Server(commands, addresses(ports), env)

    return start


def uws(_scratch, _nodes):
    (port,) = free_ports(1)
    command = [str(VENV / "bin" / "python"), str(PEERS / "uws.py"), str(port)]
    return Server([command], addresses([port]))


def nats(scratch, nodes):
    ports = free_ports(4 * nodes)
    clients, webs, routes, monitors = (ports[index::4] for index in range(4))
    others = ", ".join(f"nats://127.0.0.1:{port}" for port in routes)
    commands = []
    for client, web, route, monitor in zip(clients, webs, routes, monitors):
        config = scratch / f"nats-{client}.conf"
        config.write_text(
            f'listen: "127.0.0.1:{client}"\n'
            f'http: "127.0.0.1:{monitor}"\n'
            f'websocket {{ listen: "127.0.0.1:{web}", no_tls: true }}\n'
            f'cluster {{ name: bench, listen: "127.0.0.1:{route}", routes: [{others}] }}\n'
        )
        commands.append(["nats-server", "--config", str(config)])

    def ready():
        return all(nats_peers(port) == nodes - 1 for port in monitors)

    return Server(commands, addresses(webs), ready=ready)


def nats_peers(monitor):
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{monitor}/routez", timeout=1) as answer:
            return len({route["remote_id"] for route in json.load(answer)["routes"]})
    except OSError:
        return None


PYTHON = "uWebSockets calls handlers in Python (socketify), and waits in its own loop instead of asyncio's, which never pauses."
UNSTAMPED = "NATS passes payloads on: nothing reads a move or stamps its sender."

SYSTEMS = {
    "floor": System("poller floor, one thread", "floor", "tutorial", floor),
    "v1": System("cursormesh, v1 binary", "own", "v1", own),
    "tutorial": System("cursormesh, tutorial JSON", "own", "tutorial", own),
    "tls": System("cursormesh, v1 binary over TLS", "own", "v1", own_encrypted, encrypted=True),
    "tutorialtls": System("cursormesh, tutorial JSON over TLS", "own", "tutorial", own_encrypted, encrypted=True),
    "uws": System("uWebSockets (Python)", "peer", "tutorial", uws, needs=("uws",), beyond=("h",), note=PYTHON),
    "ws": System("Node ws", "peer", "tutorial", node_js("ws.mjs"), needs=("node",), beyond=("h",)),
    "socketio": System("Socket.IO", "peer", "socketio", node_js("socketio.mjs"), needs=("node",), beyond=("h",)),
    "sockjs": System("cursormesh, SockJS over WebSocket", "own", "tutorial", own, transport="sockjs"),
    "xhrstreaming": System("cursormesh, SockJS xhr-streaming", "own", "tutorial", own, transport="xhr-streaming"),
    "eventsource": System("cursormesh, SockJS eventsource", "own", "tutorial", own, transport="eventsource"),
    "xhrpolling": System("cursormesh, SockJS xhr-polling", "own", "tutorial", own, transport="xhr-polling"),
    "v1x3": System("cursormesh ×3, v1 binary", "own", "v1", own, 3),
    "tutorialx3": System("cursormesh ×3, tutorial JSON", "own", "tutorial", own, 3),
    "wsx3": System("Node ws ×3 + Redis", "peer", "tutorial", node_js("ws.mjs"), 3, ("node", "redis")),
    "socketiox3": System("Socket.IO ×3 + Redis", "peer", "socketio", node_js("socketio.mjs"), 3, ("node", "redis")),
    "natsx3": System("NATS ×3", "peer", "nats", nats, 3, ("nats",), note=UNSTAMPED),
}
