"""Builds what is ours and installs what the peers need, as far as that can be done without root."""

import json
import shutil
import subprocess
import sys

from servers import PEERS, ROOT, SYSTEMS, VENV


class Missing(Exception):
    """What is not there, and what helps."""

    def __str__(self):
        problem, remedy = self.args
        return f"{problem}; remedy: {remedy}"


def prepare(systems):
    """Returns why which of the systems cannot be run here."""
    say("building in release mode: some minutes when it is the first time ...")
    build = ["cargo", "build", "--release", "--locked", "--quiet", "-p", "cursormesh", "--bin", "cursormesh"]
    if "floor" in systems:
        build += ["-p", "cursormesh-tests", "--bin", "floor"]
    if any(SYSTEMS[system].encrypted for system in systems):
        build += ["-p", "cursormesh-tests", "--bin", "certificate"]
    subprocess.run(build, check=True, cwd=ROOT)
    wanted = {need for system in systems for need in SYSTEMS[system].needs}
    missing = {}
    for need in NEEDS:
        if need in wanted:
            try:
                NEEDS[need]()
            except Missing as problem:
                missing[need] = str(problem)
    problems = {system: [missing[need] for need in SYSTEMS[system].needs if need in missing] for system in systems}
    return {system: "; ".join(found) for system, found in problems.items() if found}


def node():
    require("node", "install Node.js 20 or later")
    require("npm", "install npm")
    packages = json.loads((PEERS / "package.json").read_text())["dependencies"]
    if not all((PEERS / "node_modules" / name).exists() for name in packages):
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        install("the peers' npm packages", command)


def uws():
    python = str(VENV / "bin" / "python")
    if not (VENV / "bin" / "pip").exists():
        install("a Python environment", [sys.executable, "-m", "venv", str(VENV)])
    packages = str(PEERS / "requirements.txt")
    command = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", packages]
    install("socketify for uWebSockets", command)
    done = subprocess.run([python, "-c", "import socketify"], capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"socketify does not start ({last(done.stderr)})", "apt-get install libuv1")


def redis():
    require("redis-server", "apt-get install redis-server")


def nats():
    require("nats-server", "apt-get install nats-server")


NEEDS = {"node": node, "uws": uws, "redis": redis, "nats": nats}


def require(program, remedy):
    if not shutil.which(program):
        raise Missing(f"{program} is not installed", remedy)


def install(what, command):
    say(f"installing {what} ...")
    done = subprocess.run(command, cwd=PEERS, capture_output=True, text=True)
    if done.returncode != 0:
        raise Missing(f"{what} cannot be installed ({last(done.stderr)})", f"run it by hand: {' '.join(command)}")


def last(text):
    return text.strip().splitlines()[-1][:200] if text.strip() else "no word why"


def say(text):
    print(text, file=sys.stderr, flush=True)
