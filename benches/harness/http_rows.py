"""S11: GET /health, beside a server of the same library that does nothing else."""

import json
import os
import re
import shutil
import socket
import subprocess
import time

from . import peers
from .fleet import Fleet
from .processes import Started
from .table import Samples, Table, ratio

SECONDS = 5
CONNECTIONS = (16, 64)
HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = os.path.join(HERE, "../peers/axum")
TARGET = os.path.join(HERE, "../../target/peers")


def health(setup):
    """S11."""
    if not shutil.which("wrk"):
        raise RuntimeError("wrk is not installed (benches/run --install-peers)")
    manifest = os.path.join(PACKAGE, "Cargo.toml")
    subprocess.run(["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest, "--target-dir", TARGET], check=True)
    bare = os.path.join(TARGET, "release/bare-axum")
    seconds = setup.count(SECONDS)
    rate = {(name, connections): Samples() for connections in CONNECTIONS for name in ("deia", "bare axum")}
    p99 = {key: Samples() for key in rate}
    for _ in range(setup.rounds):
        for connections in CONNECTIONS:
            with Fleet(setup, 8) as fleet:
                _add(rate, p99, ("deia", connections), _wrk(setup, _port(fleet), connections, seconds))
            port = peers.free_port()
            with Started([bare, str(port)], setup.commands):
                _await(port)
                _add(rate, p99, ("bare axum", connections), _wrk(setup, port, connections, seconds))
    title = f"S11: GET /health for {seconds} s, 8 bots, n = {setup.rounds}"
    table = Table(title, "what", "connections", "per second, median (min-max)", "p99, ms", "deia / this")
    for (name, connections), rates in rate.items():
        against = "" if name == "deia" else ratio(rate["deia", connections], rates).show(2)
        table.add(name, str(connections), rates.show(), p99[name, connections].show(2), against)
    return [table]


def _add(rate, p99, key, figures):
    rate[key].append(figures[0])
    p99[key].append(figures[1])


def _wrk(setup, port, connections, seconds):
    """Answers a second, and the 99th percentile in milliseconds; other answers than 200 are an error."""
    argv = ["wrk", "-t", "2", "-c", str(connections), "-d", f"{seconds}s", "--latency", f"http://127.0.0.1:{port}/health"]
    setup.commands.append(" ".join(argv))
    said = subprocess.run(argv, capture_output=True, text=True, timeout=60 + seconds, check=True).stdout
    if "Non-2xx" in said or "Socket errors" in said:
        raise RuntimeError(f"{' '.join(argv)}: {said}")
    number, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()
    return float(re.search(r"Requests/sec:\s+([\d.]+)", said).group(1)), float(number) * {"us": 1e-3, "ms": 1, "s": 1e3}[unit]


def _port(fleet):
    argv = [fleet.setup.deiactl, "--home", fleet.home, "status", "--json"]
    said = json.loads(subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True).stdout)
    return int(said["port"])


def _await(port):
    deadline = time.monotonic() + peers.START_TIMEOUT
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
