"""Processes that the script started, and what /proc says of them. Only these are ever signalled, by PID."""

import contextlib
import os
import signal
import subprocess
import time

TICKS = os.sysconf("SC_CLK_TCK")
END_TIMEOUT = 30.0


class Started:
    """A process of ours, ended when the block ends."""

    def __init__(self, argv, commands, cwd=None, env=None):
        commands.append(" ".join(argv))
        self.began = time.time()
        self.child = subprocess.Popen(
            argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.pid = self.child.pid

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def end(self, how=signal.SIGTERM):
        """Ends it; by force when it takes too long."""
        if self.child.poll() is None:
            self.child.send_signal(how)
            try:
                self.child.wait(END_TIMEOUT)
            except subprocess.TimeoutExpired:
                self.child.kill()
                self.child.wait()

    def cpu_seconds(self):
        """User and system time so far, of all its threads."""
        return cpu_seconds(self.pid)


def stat(pid):
    """The fields of /proc/PID/stat after the name; None of a process that is gone."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            return file.read().rpartition(")")[2].split()
    except OSError:
        return None


def cpu_seconds(pid):
    fields = stat(pid)
    return (int(fields[11]) + int(fields[12])) / TICKS if fields else 0.0


def alive(pid):
    """Whether it runs; one that only waits to be reaped does not."""
    fields = stat(pid)
    return fields is not None and fields[0] != "Z"


def descendants(pid):
    """PIDs of everything below a process."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            fields = stat(name)
            if fields:
                parents.setdefault(int(fields[1]), []).append(int(name))
    found, look = [], [pid]
    while look:
        below = parents.get(look.pop(), [])
        found += below
        look += below
    return found


def until_gone(pids, timeout=END_TIMEOUT):
    """Seconds until none of them is left."""
    begun = time.perf_counter()
    left = set(pids)
    while left and time.perf_counter() - begun < timeout:
        left = {pid for pid in left if alive(pid)}
        time.sleep(0.001)
    return time.perf_counter() - begun


def pss_mib(pid):
    """Its share of the memory it uses."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as file:
        for line in file:
            if line.startswith("Pss:"):
                return int(line.split()[1]) / 1024
    return 0.0


def switches(pid):
    """Context switches of all its threads so far."""
    total = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/status", encoding="utf-8") as file:
                total += sum(int(line.split()[1]) for line in file if "ctxt_switches" in line)
    return total
