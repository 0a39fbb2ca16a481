"""A deia daemon in a home of its own."""

import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from datetime import datetime

from .processes import Started

READY_TIMEOUT = 30.0
BENCH_TIMEOUT = 600.0

# Nothing here may start or stop a bot while something is measured.
SETTINGS = """\
bot_limits: {{min_bots: {bots}, max_bots: {most}}}
feature_flags: {{auto_scaling_enabled: false}}
rate_limits: {{requests_per_minute: 0}}
http: {{listen: "127.0.0.1:0"}}
supervision: {{restart_intensity: {{max: 5, seconds: 60}}}}
bots:
  - {{name: main, type: general, min: {bots}, max: {bots}, backend: {{kind: echo}}}}
  - {{name: held, type: general, min: 0, max: 1, backend: {{kind: echo}}}}
"""


class Fleet:
    """A started daemon with `bots` echo bots in the pool `main`; the pool `held` takes tasks and has no bot."""

    def __init__(self, setup, bots):
        self.setup = setup
        self.home = tempfile.mkdtemp(prefix="deia-bench-", dir=setup.directory)
        text = SETTINGS.format(bots=bots, most=bots + 1)
        with open(os.path.join(self.home, "bot-config.yaml"), "w", encoding="ascii") as file:
            file.write(text)
        self._start()

    def _start(self):
        setup = self.setup
        notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        path = os.path.join(self.home, "notify")
        if os.path.exists(path):
            os.unlink(path)
        notices.bind(path)
        notices.settimeout(READY_TIMEOUT)
        with notices:
            env = dict(os.environ, NOTIFY_SOCKET=path)
            argv = [setup.deia, "--home", self.home]
            begun = time.perf_counter()
            self.process = Started(argv, setup.commands, env=env)
            try:
                while b"READY=1" not in notices.recv(4096):
                    pass
            except TimeoutError:
                self.close()
                raise RuntimeError(f"the daemon in {self.home} was not ready in {READY_TIMEOUT} s") from None
            self.ready_ms = (time.perf_counter() - begun) * 1e3

    def start_again(self):
        """Ends the daemon and starts another in its home; how long that took until READY, in milliseconds."""
        self.process.end()
        self._start()
        return self.ready_ms

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.process.end()
        shutil.rmtree(self.home, ignore_errors=True)

    def bench(self, *options):
        """`deiactl bench`, its figures, and what each task cost the daemon in CPU."""
        before = self.process.cpu_seconds()
        argv = [self.setup.deiactl, "--home", self.home, "bench", "--json", "--tcp", *options]
        self.setup.commands.append(" ".join(argv))
        said = subprocess.run(argv, capture_output=True, text=True, timeout=BENCH_TIMEOUT, check=False)
        if said.returncode != 0:
            raise RuntimeError(f"deiactl bench: {said.stderr.strip()} {said.stdout.strip()}")
        figures = json.loads(said.stdout)
        figures["cpu_us"] = (self.process.cpu_seconds() - before) * 1e6 / figures["tasks"]
        return figures

    def events(self, *names):
        """Log lines of these events so far, in the order of their times."""
        found = {}
        for path in glob.glob(os.path.join(self.home, ".deia/bot-logs/*.jsonl")):
            with open(path, encoding="utf-8") as file:
                for line in file:
                    if any(name in line for name in names):
                        found[line] = json.loads(line)
        lines = [line for line in found.values() if line.get("event") in names]
        return sorted(lines, key=at)

    def await_events(self, name, count, since=0.0, timeout=READY_TIMEOUT):
        """The events of this name after `since`, once there are `count`."""
        deadline = time.monotonic() + timeout
        while True:
            events = [event for event in self.events(name) if at(event) >= since]
            if len(events) >= count:
                return events
            if time.monotonic() > deadline:
                raise RuntimeError(f"{len(events)} of {count} {name} events within {timeout} s")
            time.sleep(0.1)

    def bots(self):
        """Name and PID of every bot that runs."""
        argv = [self.setup.deiactl, "--home", self.home, "bots", "--json"]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
        return {bot["id"]: bot["pid"] for bot in json.loads(said.stdout)["bots"] if bot["pid"]}

    def settle(self, bots, timeout=READY_TIMEOUT):
        """Waits until so many bots are ready, and a second more: what a start costs is another row."""
        argv = [self.setup.deiactl, "--home", self.home, "bots", "--json"]
        deadline = time.monotonic() + timeout
        while True:
            said = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
            if sum(bot["actual"] == "ready" for bot in json.loads(said.stdout)["bots"]) >= bots:
                return time.sleep(1)
            if time.monotonic() > deadline:
                raise RuntimeError(f"not {bots} bots were ready within {timeout} s")
            time.sleep(0.1)

    def stop(self):
        """Asks it to end, without waiting."""
        self.process.child.send_signal(signal.SIGTERM)


def at(event):
    """A log line's time, in seconds since 1970."""
    return datetime.fromisoformat(event["timestamp"]).timestamp()
