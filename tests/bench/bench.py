"""Runs this project and its peers side by side, one after the other on the same machine, and tells
what each delivered move costs its server.

Every server is put under the same load by `cursormesh load`, in one thread, with the shapes below.
Rounds are interleaved, so that what else the machine does meets all alike; medians are told, and how
far the rounds were apart. Builds in release mode first; installs npm and Python packages for the peers,
and leaves out those that cannot be run here unless they are named.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from charts import charts
from prepare import prepare, say
from report import against, header, table
from servers import BINARIES, ROOT, SYSTEMS, TICK_MS, DoesNotServe



@dataclass(frozen=True)
class Shape:
    """Who is there and who moves, twenty times a second each."""

    what: str
    rooms: int
    members: int
    senders: int
    # How many read 10 KB a second.
    slow: int = 0
    nodes: int = 1
    # Run when its group is asked for, and for these systems.
    group: str = "peers"
    only: tuple = ()
    # The system that costs are told as multiples of.
    base: str = "floor"


LAG = {"group": "lag", "only": ("v1", "tutorial")}
SOCKJS = ("tutorial", "sockjs", "xhrstreaming", "eventsource")
SHAPES = {
    "a": Shape("50 in one room, all move", 1, 50, 50),
    "b": Shape("1,000 in one room, 10 move", 1, 1000, 10),
    "c": Shape("100 rooms of 10, all move", 100, 10, 10),
    "g": Shape("1,000 in one room, 100 move", 1, 1000, 100),
    "h": Shape("1,000 in one room, all move", 1, 1000, 1000),
    "idle": Shape("1,000 rooms of 10, nobody moves", 1000, 10, 0),
    "three": Shape("three nodes, 300 in one room, 30 move", 1, 300, 30, nodes=3),
    **{
        f"m{members}": Shape(f"{members:,} in one room, 10 move", 1, members, 10, group="scale", only=("floor", "v1"))
        for members in (10, 50, 200, 1000, 5000)
    },
    **{
        f"n{nodes}": Shape(f"300 in one room on {nodes} nodes, 30 move", 1, 300, 30, nodes=nodes, group="scale", only=("v1",))
        for nodes in (1, 2, 3, 5)
    },
    "lag0": Shape("240 in one room, 200 move", 1, 240, 200, **LAG),
    "lag1": Shape("the same and one that reads 10 KB a second", 1, 241, 200, 1, **LAG),
    "lag1000": Shape("the same and 1,000 that read 10 KB a second each", 1, 1240, 200, 1000, **LAG),
    **{
        f"hold{senders}": Shape(f"three nodes, 300 in one room, {senders} move", 1, 300, senders, nodes=3, group="hold", only=("wsx3", "v1x3", "tutorialx3"))
        for senders in (5, 10, 15, 20)
    },
    **{
        f"hold{senders}": Shape(f"three nodes, 300 in one room, {senders} move", 1, 300, senders, nodes=3, group="hold", only=("v1x3", "tutorialx3"))
        for senders in (50, 75, 100, 150, 300)
    },
    "many": Shape("9,000 rooms of one, nobody moves", 9000, 1, 0, **LAG),
    "sockjs50": Shape("50 in one room, all move", 1, 50, 50, group="sockjs", only=(*SOCKJS, "xhrpolling"), base="tutorial"),
    "sockjs1000": Shape("1,000 in one room, 10 move", 1, 1000, 10, group="sockjs", only=SOCKJS, base="tutorial"),
}
GROUPS = ("peers", "scale", "lag", "hold", "sockjs")


def measure(system, shape, seconds, scratch):
    about = SYSTEMS[system]
    of = SHAPES[shape]
    server = about.start(scratch, of.nodes)
    try:
        server.wait()
        command = [str(BINARIES / "cursormesh"), "load", "--json", "--protocol", about.protocol, "--transport", about.transport]
        command += ["--rooms", str(of.rooms), "--members", str(of.members), "--senders", str(of.senders)]
        command += ["--slow", str(of.slow), "--rate", "20", "--seconds", str(seconds), "--warmup", "2"]
        for url in server.urls:
            command += ["--url", url]
        if about.encrypted:
            command += ["--ca", str(scratch / "web.pem")]
        for process in server.processes:
            command += ["--pid", str(process.pid)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120 + 4 * seconds)
        if done.returncode != 0:
            return {"failed": done.stderr.strip()}
        return json.loads(done.stdout)
    except (DoesNotServe, subprocess.TimeoutExpired) as problem:
        return {"failed": str(problem)}
    finally:
        server.stop()


def combine(rounds):
    good = [one for one in rounds if "failed" not in one]
    if not good:
        return {"failed": rounds[-1]["failed"]}
    result = {"rounds": len(good), "failed_rounds": len(rounds) - len(good)}
    for key in ("cpu_us_per_delivered", "ratio", "cpu_used", "load_cpu_used", "idle_client_bytes", "connects_per_second", "grown_bytes", "replaced"):
        values = [one[key] for one in good if one.get(key) is not None]
        result[key] = statistics.median(values) if values else None
    costs = [one["cpu_us_per_delivered"] for one in good if one.get("cpu_us_per_delivered")]
    result["spread"] = (max(costs) - min(costs)) / statistics.median(costs) if costs else None
    for key in ("age_ms", "slow_age_ms"):
        ages = [one[key] for one in good if one.get(key)]
        result[key] = [statistics.median(column) for column in zip(*ages)] if ages else None
    return result


def fits(shape, system):
    """Whether it makes sense to measure them together."""
    about, of = SYSTEMS[system], SHAPES[shape]
    if of.only:
        return system in of.only
    return about.transport == "websocket" and about.nodes == of.nodes and shape not in about.beyond


def taken(rounds, seconds):
    """Under what the results were taken."""
    return {
        "machine": machine(),
        "kernel": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "rounds": rounds,
        "seconds": seconds,
        "tick_ms": TICK_MS,
        "commit": commit(),
    }


def machine():
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def commit():
    try:
        command = ["git", "describe", "--always", "--dirty", "--exclude", "*"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() or None


def run(pairs, named, rounds, seconds):
    """Measures every pair of shape and system; a document with what came of it."""
    systems = [system for system in SYSTEMS if any(system == one for _, one in pairs)]
    left_out = prepare(systems)
    unmet = [f"{system}: {why}" for system, why in left_out.items() if system in named]
    if unmet:
        raise SystemExit("\n".join(unmet))
    for system, why in left_out.items():
        say(f"left out: {system}: {why}")
    pairs = [(shape, system) for shape, system in pairs if system not in left_out]
    collected = {pair: [] for pair in pairs}
    with tempfile.TemporaryDirectory() as scratch:
        for count in range(rounds):
            for shape, system in pairs:
                say(f"round {count + 1} of {rounds}: {shape}, {SYSTEMS[system].label}")
                collected[shape, system].append(measure(system, shape, seconds, Path(scratch)))
    return {
        "taken": taken(rounds, seconds),
        "shapes": {shape: of.what for shape, of in SHAPES.items()},
        "groups": {shape: of.group for shape, of in SHAPES.items()},
        "bases": {shape: of.base for shape, of in SHAPES.items()},
        "systems": {name: {"label": one.label, "kind": one.kind, "note": one.note} for name, one in SYSTEMS.items()},
        "left_out": left_out,
        "results": {f"{shape} {system}": combine(found) for (shape, system), found in collected.items()},
    }


def chosen(parser, options):
    """The pairs of shape and system that the options ask for."""
    only = set(options.only or [])
    unknown = only - set(SHAPES) - set(SYSTEMS)
    if unknown:
        parser.error(f"no shape or server is called {', '.join(sorted(unknown))}; there are {', '.join([*SHAPES, *SYSTEMS])}")
    shapes = [name for name, of in SHAPES.items() if name in only or (not only & set(SHAPES) and of.group == options.group)]
    systems = [name for name in SYSTEMS if name in only or not only & set(SYSTEMS)]
    if options.quick:
        shapes = [name for name in shapes if name != "h"]
    return [(shape, system) for shape in shapes for system in systems if fits(shape, system)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", metavar="NAME", help="a shape or a server; may be given several times: " + ", ".join([*SHAPES, *SYSTEMS]))
    parser.add_argument("--group", choices=GROUPS, default="peers", help="which shapes: beside the peers (default), by members and nodes, with readers that lag and many rooms, how much three nodes hold, or SockJS beside WebSocket")
    parser.add_argument("--micro", action="store_true", help="runs the micro-benchmarks of the core and of a flush instead")
    parser.add_argument("--quick", action="store_true", help="one round of 3 s, without shape h: to see that it works, not to be quoted")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    parser.add_argument("--seconds", type=int, default=8, metavar="S", help="how long each run is measured")
    parser.add_argument("--json", metavar="FILE", help="writes the results there")
    parser.add_argument("--charts", metavar="DIR", help="writes charts as SVG files there")
    parser.add_argument("--from", dest="source", metavar="FILE", help="runs nothing: tells what results written earlier say")
    parser.add_argument("--baseline", metavar="FILE", help="compares with results written earlier")
    options = parser.parse_args()
    if options.micro:
        command = ["cargo", "bench", "--locked", "--quiet", "-p", "cursormesh-mesh", "-p", "cursormesh-web", "--bench", "core", "--bench", "flush"]
        return subprocess.run(command, cwd=ROOT).returncode
    pairs = chosen(parser, options)
    if options.source:
        document = json.loads(Path(options.source).read_text())
    else:
        rounds, seconds = (1, 3) if options.quick else (options.rounds, options.seconds)
        document = run(pairs, set(options.only or []), rounds, seconds)
    print(header(document) + "\n")
    print(table(document))
    if options.json:
        Path(options.json).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    if options.charts:
        Path(options.charts).mkdir(parents=True, exist_ok=True)
        for name, text in charts(document).items():
            (Path(options.charts) / name).write_text(text)
    if options.baseline:
        print(against(document["results"], options.baseline))
    return 1 if any("failed" in one for one in document["results"].values()) else 0


if __name__ == "__main__":
    sys.exit(main())
