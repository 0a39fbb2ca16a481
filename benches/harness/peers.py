"""The others, each with the setting that makes what it acknowledges durable."""

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import tempfile
import time

from . import machine, processes
from .processes import Started

# Debian package -> the program that must be there.
PACKAGES = {
    "redis-server": "redis-server",
    "redis-tools": "redis-benchmark",
    "beanstalkd": "beanstalkd",
    "s6": "s6-svscan",
    "runit": "runsvdir",
    "supervisor": "supervisord",
    "wrk": "wrk",
}

START_TIMEOUT = 30.0


def install():
    """Installs what is missing, from Debian, as root."""
    missing = [package for package, program in PACKAGES.items() if not shutil.which(program)]
    if missing:
        env = dict(os.environ, DEBIAN_FRONTEND="noninteractive")
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", *missing], check=True, env=env)


def versions():
    """Package and version, None where it is not installed."""
    return {package: machine.package(package) for package in PACKAGES}


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Server:
    """A queue's server with an empty store, listening on loopback."""

    def __init__(self, setup, program, argv):
        self.setup = setup
        self.port = free_port()
        self.store = tempfile.mkdtemp(prefix="deia-bench-", dir=setup.directory)
        self.name = "redis" if program == "redis-server" else program
        self.process = Started([program, *argv(self.port, self.store)], setup.commands, cwd=self.store)
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    self.__exit__()
                    raise
                time.sleep(0.02)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.end()
        shutil.rmtree(self.store, ignore_errors=True)

    def load(self, mode, tasks, producers, consumers, size, rate=None):
        """`benches/peers/load.rs`, and what each task cost the server in CPU."""
        argv = [self.setup.peer_load, self.name, str(self.port), mode]
        argv += [str(n) for n in (tasks, producers, consumers, size)] + ([str(rate)] if rate else [])
        return self._measure(argv, tasks, json.loads)

    def redis_benchmark(self, tasks, clients, size, pipeline):
        """`redis-benchmark -t lpush`."""
        argv = ["redis-benchmark", "-p", str(self.port), "-c", str(clients), "-n", str(tasks), "-d", str(size)]
        argv += ["-P", str(pipeline), "-t", "lpush", "--csv"]

        def read(text):
            head, values = [line.strip('"').split('","') for line in text.strip().splitlines()[-2:]]
            return {"submits_per_second": float(dict(zip(head, values))["rps"])}

        return self._measure(argv, tasks, read)

    def _measure(self, argv, tasks, read):
        self.setup.commands.append(" ".join(argv))
        before = self.process.cpu_seconds()
        said = subprocess.run(argv, capture_output=True, text=True, timeout=600, check=True)
        figures = read(said.stdout)
        figures["cpu_us"] = (self.process.cpu_seconds() - before) * 1e6 / tasks
        return figures


def redis(setup):
    def argv(port, store):
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        return ["--port", str(port), "--bind", "127.0.0.1", "--dir", store, *durable]

    return Server(setup, "redis-server", argv)


def beanstalkd(setup):
    return Server(setup, "beanstalkd", lambda port, store: ["-l", "127.0.0.1", "-p", str(port), "-b", store, "-f0"])


def sqlite_submits_per_second(setup, tasks, size):
    """One insert a transaction, WAL, synchronous=FULL: what the engine below our store does alone."""
    with tempfile.TemporaryDirectory(prefix="deia-bench-", dir=setup.directory) as store:
        database = sqlite3.connect(os.path.join(store, "floor.db"), isolation_level=None)
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE tasks (seq INTEGER PRIMARY KEY, id TEXT UNIQUE, content TEXT)")
        begun = time.perf_counter()
        for n in range(tasks):
            database.execute("INSERT INTO tasks (id, content) VALUES (?, ?)", (f"bench-{n}", "x" * size))
        seconds = time.perf_counter() - begun
        database.close()
        return tasks / seconds


class Supervisor:
    """s6, runit or supervisord over `count` services that tell when they run."""

    def __init__(self, setup, kind, count):
        self.home = tempfile.mkdtemp(prefix="deia-bench-", dir=setup.directory)
        self.notices = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.notices.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        path = os.path.join(self.home, "notices")
        self.notices.bind(path)
        self.notices.settimeout(START_TIMEOUT)
        services = os.path.join(self.home, "services")
        for n in range(count):
            directory = os.path.join(services, f"bench-{n}")
            os.makedirs(directory)
            os.symlink(setup.peer_service, os.path.join(directory, "run"))
        argv = {
            "s6": ["s6-svscan", "-c", str(count + 10), services],
            "runit": ["runsvdir", services],
            "supervisord": ["supervisord", "-n", "-c", os.path.join(self.home, "supervisord.conf")],
        }[kind]
        if kind == "supervisord":
            self._configure_supervisord(services, count)
        self.process = Started(argv, setup.commands, cwd=self.home, env=dict(os.environ, BENCH_SOCKET=path))
        self.kind = kind
        self.pids = {}
        last = 0.0
        for _ in range(count):
            name, pid, at = self._notice()
            self.pids[name] = pid
            last = max(last, at)
        self.running_seconds = last - self.process.began

    def _configure_supervisord(self, services, count):
        with open(os.path.join(self.home, "supervisord.conf"), "w", encoding="ascii") as file:
            file.write(f"[supervisord]\nlogfile={self.home}/log\npidfile={self.home}/pid\n")
            for n in range(count):
                file.write(
                    f"[program:bench-{n}]\ncommand={services}/bench-{n}/run\ndirectory={services}/bench-{n}\n"
                    "stdout_logfile=NONE\nstderr_logfile=NONE\n"
                )

    def _notice(self):
        name, pid, at = self.notices.recv(4096).decode().split()
        return name, int(pid), float(at)

    def restart_ms(self, name, killed_at):
        """Milliseconds from a kill to the replacement's first act."""
        _, pid, at = self._notice()
        self.pids[name] = pid
        return (at - killed_at) * 1e3

    def supervisors(self):
        """The PIDs that supervise."""
        return [self.process.pid, *(set(processes.descendants(self.process.pid)) - set(self.pids.values()))]

    def stop_seconds(self):
        """Seconds until it and everything below it is gone."""
        everything = [self.process.pid, *processes.descendants(self.process.pid)]
        begun = time.perf_counter()
        # runsvdir ends its services only on a hang-up (runsvdir(8)).
        self.process.child.send_signal(1 if self.kind == "runit" else 15)
        self.process.child.wait(START_TIMEOUT)
        processes.until_gone(everything)
        return time.perf_counter() - begun

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.child.poll() is None:
            self.stop_seconds()
        self.notices.close()
        shutil.rmtree(self.home, ignore_errors=True)
