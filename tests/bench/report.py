"""Results as text: a table for each shape, and what changed since other results."""

import json
import statistics
from pathlib import Path

# What the systems are called that costs are told as multiples of.
BASES = {"floor": "the floor", "tutorial": "WebSocket"}


def header(document):
    taken = document["taken"]
    commit = f", commit {taken['commit']}" if taken["commit"] else ""
    return (
        f"{taken['machine']}, {taken['kernel']}, {taken['cpus']} CPUs; {taken['rounds']} × "
        f"{taken['seconds']} s, tick {taken['tick_ms']} ms{commit}"
    )


def measured(document, shape):
    """The systems measured in a shape, in their order, with what came of it."""
    found = ((system, document["results"].get(f"{shape} {system}")) for system in document["systems"])
    return [(system, one) for system, one in found if one]


def number(value, digits=2):
    if value is None:
        return "–"
    return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.0f}"


def table(document):
    lines = []
    for shape, what in document["shapes"].items():
        rows = [(system, one) for system, one in measured(document, shape) if one.get("cpu_us_per_delivered") or "failed" in one]
        if rows:
            lines += [f"**{shape}**: {what}.", "", *shape_table(document, shape, rows), ""]
    lines += slow_table(document)
    lines += clients_table(document)
    there = {system for shape in document["shapes"] for system, _ in measured(document, shape)}
    systems = document["systems"].items()
    notes = dict.fromkeys(said["note"] for system, said in systems if system in there and said["note"])
    notes |= {f"Left out: {document['systems'][system]['label']}: {why}": None for system, why in document["left_out"].items()}
    return "\n".join([*lines, *notes]).rstrip()


def shape_table(document, shape, rows):
    # Earlier results name none: it was the floor.
    system = document.get("bases", {}).get(shape, "floor")
    base = dict(rows).get(system, {}).get("cpu_us_per_delivered")
    lines = [
        f"| server | CPU-µs per delivered move | of {BASES[system]} | delivered | age p50 / p90 / p99 / max, ms | CPUs | load's CPU | spread |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for system, one in rows:
        label = document["systems"][system]["label"]
        if "failed" in one:
            lines.append(f"| {label} | failed: {one['failed'].splitlines()[-1]} | | | | | | |")
            continue
        cost = one["cpu_us_per_delivered"]
        ages = " / ".join(number(age, 1) for age in one["age_ms"]) if one["age_ms"] else "–"
        share = f"{cost / base:.2f}" if base and cost else "–"
        spread = f"± {50 * one['spread']:.0f} %" if one["spread"] is not None else "–"
        lines.append(
            f"| {label} | {number(cost, 3)} | {share} | {100 * one['ratio']:.1f} % | {ages} | "
            f"{number(one['cpu_used'])} | {number(one['load_cpu_used'])} | {spread} |"
        )
    return lines


def slow_table(document):
    """What those see who read slowly, and what they cost."""
    lines = []
    for shape, what in document["shapes"].items():
        for system, one in measured(document, shape):
            if one.get("slow_age_ms"):
                ages = " / ".join(number(age, 0) for age in one["slow_age_ms"])
                grown = one["grown_bytes"] / 2**20
                label = document["systems"][system]["label"]
                lines.append(f"| {shape} | {label} | {ages} | {grown:.1f} MiB |")
    if not lines:
        return []
    return [
        "| shape | server | slow readers: age of the newest move of a reading, p50 / p90 / p99 / max, ms | the server grew by |",
        "|---|---|---|---|",
        *lines,
        "",
    ]


def clients_table(document):
    """What clients cost that are only there, where there are many."""
    lines = []
    for system, said in document["systems"].items():
        sized = [document["results"].get(f"{shape} {system}", {}) for shape in ("idle",)]
        sized = [one for one in sized if one.get("idle_client_bytes") is not None]
        if sized:
            memory = statistics.median(one["idle_client_bytes"] for one in sized)
            connects = statistics.median(one["connects_per_second"] for one in sized)
            lines.append(f"| {said['label']} | {memory / 1024:.1f} KiB | {connects:,.0f} |")
    if not lines:
        return []
    return ["| server | memory per idle client | connects per second |", "|---|---|---|", *lines, ""]


def against(results, path):
    before = json.loads(Path(path).read_text())["results"]
    lines = ["", "| shape | server | before | now | ratio |", "|---|---|---|---|---|"]
    for pair, one in results.items():
        old = before.get(pair, {}).get("cpu_us_per_delivered")
        new = one.get("cpu_us_per_delivered")
        if old and new:
            shape, system = pair.split()
            lines.append(f"| {shape} | {system} | {number(old, 3)} | {number(new, 3)} | {new / old:.2f} |")
    return "\n".join(lines)
