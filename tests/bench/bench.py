"""Runs this project and its peers side by side, one after the other on the same machine, and tells
what each delivered move costs its server.

Every server is put under the same load by `cursormesh load`, in one thread, with the shapes below.
Rounds are interleaved, so that what else the machine does meets all alike; medians are told, and how
far the rounds were apart. Builds in release mode first; installs npm packages for the peers.
"""

import argparse
import json
import os
import platform
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PEERS = Path(__file__).resolve().parent / "peers"
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
TICK_MS = 16

# name: (what it is, rooms, members, senders), twenty moves a second from each sender.
SHAPES = {
    "a": ("50 in one room, all move", 1, 50, 50),
    "b": ("1,000 in one room, 10 move", 1, 1000, 10),
    "c": ("100 rooms of 10, all move", 100, 10, 10),
    "g": ("1,000 in one room, 100 move", 1, 1000, 100),
    "h": ("1,000 in one room, all move", 1, 1000, 1000),
    "three": ("three nodes, 300 in one room, 30 move", 1, 300, 30),
}


class Server:
    """Processes that serve, and how to reach them."""

    def __init__(self, commands, urls, env=None):
        self.urls = urls
        self.log = tempfile.TemporaryFile()
        self.processes = []
        for command, own_env in commands:
            environment = {**os.environ, **(env or {}), **(own_env or {})}
            self.processes.append(
                subprocess.Popen(command, stdout=self.log, stderr=self.log, env=environment)
            )

    def wait(self):
        end = time.monotonic() + 20
        for url in self.urls:
            host, port = url.removeprefix("ws://").split(":")
            while True:
                try:
                    socket.create_connection((host, int(port)), timeout=1).close()
                    break
                except OSError:
                    if time.monotonic() > end or self.processes[0].poll() is not None:
                        raise SystemExit(f"{url} does not answer:\n{self.tail()}") from None
                    time.sleep(0.05)

    def tail(self):
        self.log.seek(0)
        return self.log.read().decode(errors="replace")[-2000:]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def own(scratch, nodes):
    binary = str(TARGET / "cursormesh")
    if nodes == 1:
        (port,) = free_ports(1)
        command = [binary, "dev", "--port", str(port), "--log-level", "warn"]
        return Server([(command, None)], [f"ws://127.0.0.1:{port}"])
    ports = free_ports(2 * nodes)
    names = [f"n{index + 1}" for index in range(nodes)]
    lines = ['cluster = "bench"']
    for name, web, mesh in zip(names, ports[:nodes], ports[nodes:]):
        lines.append(f'[[node]]\nname = "{name}"\nweb = ["127.0.0.1:{web}"]\nmesh = "127.0.0.1:{mesh}"')
    config = scratch / "cluster.toml"
    config.write_text("\n".join(lines) + "\n")
    commands = [
        ([binary, "serve", "--config", str(config), "--node", name, "--log-level", "warn"], None)
        for name in names
    ]
    server = Server(commands, [f"ws://127.0.0.1:{port}" for port in ports[:nodes]])
    server.wait()
    for port in ports[:nodes]:
        url = f"http://127.0.0.1:{port}"
        subprocess.run([binary, "status", "--url", url, "--wait", "20"], check=True, capture_output=True)
    return server


def floor(_scratch, _nodes):
    (port,) = free_ports(1)
    command = [str(TARGET / "floor"), f"127.0.0.1:{port}", str(TICK_MS)]
    return Server([(command, None)], [f"ws://127.0.0.1:{port}"])


def node_ws(_scratch, nodes):
    ports = free_ports(nodes + 1)
    env, commands = {}, []
    if nodes > 1:
        redis = ports.pop()
        quiet = ["--save", "", "--appendonly", "no", "--bind", "127.0.0.1"]
        commands.append((["redis-server", "--port", str(redis), *quiet], None))
        env["REDIS"] = f"redis://127.0.0.1:{redis}"
    else:
        ports.pop()
    commands += [(["node", str(PEERS / "ws.mjs"), str(port)], None) for port in ports]
    return Server(commands, [f"ws://127.0.0.1:{port}" for port in ports], env)


# name: (label, protocol, how it is started, whether it is a cluster)
SYSTEMS = {
    "floor": ("poller floor, one thread", "tutorial", floor, False),
    "v1": ("cursormesh, v1 binary", "v1", own, False),
    "tutorial": ("cursormesh, tutorial JSON", "tutorial", own, False),
    "ws": ("Node ws", "tutorial", node_ws, False),
    "v1x3": ("cursormesh ×3, v1 binary", "v1", own, True),
    "tutorialx3": ("cursormesh ×3, tutorial JSON", "tutorial", own, True),
    "wsx3": ("Node ws ×3 + Redis", "tutorial", node_ws, True),
}


def measure(system, shape, seconds, scratch):
    _, protocol, start, cluster = SYSTEMS[system]
    _, rooms, members, senders = SHAPES[shape]
    server = start(scratch, 3 if cluster else 1)
    try:
        server.wait()
        command = [str(TARGET / "cursormesh"), "load", "--json", "--protocol", protocol]
        command += ["--rooms", str(rooms), "--members", str(members), "--senders", str(senders)]
        command += ["--rate", "20", "--seconds", str(seconds), "--warmup", "2"]
        for url in server.urls:
            command += ["--url", url]
        for process in server.processes:
            command += ["--pid", str(process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 4 * seconds)
        if done.returncode != 0:
            return {"failed": done.stderr.strip()}
        return json.loads(done.stdout)
    finally:
        server.stop()


def combine(rounds):
    good = [one for one in rounds if "failed" not in one]
    if not good:
        return {"failed": rounds[-1]["failed"]}
    result = {"rounds": len(good), "failed_rounds": len(rounds) - len(good)}
    for key in ("cpu_us_per_delivered", "ratio", "cpu_used", "load_cpu_used", "idle_client_bytes", "connects_per_second"):
        values = [one[key] for one in good if one.get(key) is not None]
        result[key] = statistics.median(values) if values else None
    costs = [one["cpu_us_per_delivered"] for one in good if one.get("cpu_us_per_delivered")]
    result["spread"] = (max(costs) - min(costs)) / statistics.median(costs) if costs else None
    ages = [one["age_ms"] for one in good if one.get("age_ms")]
    result["age_ms"] = [statistics.median(column) for column in zip(*ages)] if ages else None
    return result


def number(value, digits=2):
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"


def table(results):
    lines = []
    for shape, (what, *_sizes) in SHAPES.items():
        rows = [(system, results[shape, system]) for system in SYSTEMS if (shape, system) in results]
        if not rows:
            continue
        base = results.get((shape, "floor"), {}).get("cpu_us_per_delivered")
        lines += [
            f"**{shape}**: {what}.",
            "",
            "| server | CPU-µs per delivered move | of the floor | delivered | age p50 / p90 / p99 / max, ms | CPUs | load's CPU | spread |",
            "|---|---|---|---|---|---|---|---|",
        ]
        for system, one in rows:
            label = SYSTEMS[system][0]
            if "failed" in one:
                lines.append(f"| {label} | failed: {one['failed'].splitlines()[-1]} | | | | | | |")
                continue
            cost = one["cpu_us_per_delivered"]
            ages = " / ".join(number(age, 1) for age in one["age_ms"]) if one["age_ms"] else "–"
            share = f"{cost / base:.2f}" if base and cost else "–"
            lines.append(
                f"| {label} | {number(cost, 3)} | {share} | {100 * one['ratio']:.1f} % | {ages} | "
                f"{number(one['cpu_used'])} | {number(one['load_cpu_used'])} | ± {50 * one['spread']:.0f} % |"
            )
        lines.append("")
    lines += ["| server | memory per idle client | connects per second |", "|---|---|---|"]
    for system in SYSTEMS:
        sized = [results[shape, system] for shape in ("b", "g") if (shape, system) in results]
        sized = [one for one in sized if "failed" not in one]
        if sized:
            memory = statistics.median(one["idle_client_bytes"] for one in sized)
            connects = statistics.median(one["connects_per_second"] for one in sized)
            lines.append(f"| {SYSTEMS[system][0]} | {memory / 1024:.1f} KiB | {connects:,.0f} |")
    return "\n".join(lines)


def against(results, path):
    before = json.loads(Path(path).read_text())["results"]
    lines = ["", "| shape | server | before | now | ratio |", "|---|---|---|---|---|"]
    for (shape, system), one in results.items():
        old = before.get(f"{shape} {system}", {}).get("cpu_us_per_delivered")
        new = one.get("cpu_us_per_delivered")
        if old and new:
            lines.append(f"| {shape} | {system} | {number(old, 3)} | {number(new, 3)} | {new / old:.2f} |")
    return "\n".join(lines)


def prepare(systems):
    say("building in release mode: some minutes when it is the first time ...")
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "cursormesh", "-p", "cursormesh-tests"]
    subprocess.run([*build, "--bin", "cursormesh", "--bin", "floor"], check=True, cwd=ROOT)
    if any(system.startswith("ws") for system in systems) and not (PEERS / "node_modules").exists():
        say("installing the peers' npm packages (ws, redis) ...")
        subprocess.run(["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"], check=True, cwd=PEERS)
    if "wsx3" in systems and not shutil.which("redis-server"):
        raise SystemExit("redis-server is not installed\n  remedy: apt-get install redis-server, or leave wsx3 out")


def say(text):
    print(text, file=sys.stderr, flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a shape or a server; may be given several times: " + ", ".join([*SHAPES, *SYSTEMS]))
    parser.add_argument("--quick", action="store_true", help="one round of 3 s, without shape h: to see that it works, not to be quoted")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=int, default=8, metavar="S", help="how long each run is measured")
    parser.add_argument("--json", metavar="FILE", help="writes the results there")
    parser.add_argument("--baseline", metavar="FILE", help="compares with results written earlier")
    options = parser.parse_args()
    unknown = set(options.only or []) - set(SHAPES) - set(SYSTEMS)
    if unknown:
        parser.error(f"no shape or server is called {', '.join(sorted(unknown))}; there are {', '.join([*SHAPES, *SYSTEMS])}")
    only = set(options.only or [])
    shapes = [name for name in SHAPES if name in only or not only & set(SHAPES)]
    systems = [name for name in SYSTEMS if name in only or not only & set(SYSTEMS)]
    rounds, seconds = (1, 3) if options.quick else (options.rounds, options.seconds)
    if options.quick:
        shapes = [name for name in shapes if name != "h"]
    pairs = [
        (shape, system)
        for shape in shapes
        for system in systems
        if SYSTEMS[system][3] == (shape == "three") and not (shape == "h" and system == "ws")
    ]
    prepare([system for _, system in pairs])
    collected = {pair: [] for pair in pairs}
    with tempfile.TemporaryDirectory() as scratch:
        for count in range(rounds):
            for shape, system in pairs:
                say(f"round {count + 1} of {rounds}: {shape}, {SYSTEMS[system][0]}")
                collected[shape, system].append(measure(system, shape, seconds, Path(scratch)))
    results = {pair: combine(found) for pair, found in collected.items()}
    print(f"{platform.system()} {platform.release()}, {os.cpu_count()} CPUs; {rounds} rounds of {seconds} s, tick {TICK_MS} ms\n")
    print(table(results))
    if options.json:
        named = {f"{shape} {system}": one for (shape, system), one in results.items()}
        Path(options.json).write_text(json.dumps({"results": named}, indent=2) + "\n")
    if options.baseline:
        print(against(results, options.baseline))
    return 1 if any("failed" in one for one in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
