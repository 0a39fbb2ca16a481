"""S5 to S9 and S12: restarts, starts, stops, memory, idleness."""

import os
import signal
import statistics
import time

from . import peers, processes
from .fleet import Fleet, at
from .table import Samples, Table, percentile

KILLS = 50
# Below supervision.restart_intensity.max, so that every restart is a first one.
KILLS_PER_BOT = 1
IDLE_SECONDS = 20
STARTS = 20
SUPERVISORS = {"s6": "s6", "runit": "runit", "supervisord": "supervisor"}


def restart(setup):
    """S5."""
    kills = setup.count(KILLS, least=10)
    table = Table(f"S5: kill -9 a bot, n = {kills}", "what", "p50, ms", "p99, ms", "max, ms")

    def add(name, times):
        table.add(name, *(f"{value:.1f}" for value in (statistics.median(times), percentile(times, 0.99), max(times))))

    for count in (kills // KILLS_PER_BOT, setup.count(500, least=100)):
        with Fleet(setup, count) as fleet:
            fleet.await_events("bot_ready", count)
            bots = sorted(fleet.bots().items())[:kills]
            killed = {}
            for name, pid in bots:
                killed[name] = time.time()
                os.kill(pid, signal.SIGKILL)
                time.sleep(0.05)
            for event, what in (("bot_started", "its replacement has been executed"), ("bot_ready", "it is ready")):
                first = min(killed.values())
                again = {bot_of(e): at(e) for e in fleet.await_events(event, len(killed), first)}
                add(f"deia, {count} bots: {what}", [(again[name] - when) * 1e3 for name, when in killed.items()])
    for kind, package in SUPERVISORS.items():
        if setup.has(package):
            times = []
            with peers.Supervisor(setup, kind, kills) as peer:
                # runit starts a service that ran for less than a second only after one.
                time.sleep(1.5)
                for name, pid in sorted(peer.pids.items()):
                    now = time.time()
                    os.kill(pid, signal.SIGKILL)
                    times.append(peer.restart_ms(name, now))
            add(f"{kind}, {kills} services: its replacement says that it runs", times)
    return [table]


def start_and_stop(setup):
    """S6 and S7."""
    tables = []
    for count in (100, 500):
        if count > 100 and setup.quick:
            continue
        started, ready, stopped = {}, {}, {}
        for _ in range(setup.rounds):
            with Fleet(setup, count) as fleet:
                began = fleet.process.began
                add(started, "deia", last(fleet.await_events("bot_started", count)) - began)
                add(ready, "deia", last(fleet.await_events("bot_ready", count)) - began)
                time.sleep(0.5)
                everything = [fleet.process.pid, *processes.descendants(fleet.process.pid)]
                begun = time.perf_counter()
                fleet.stop()
                fleet.process.child.wait(60)
                processes.until_gone(everything)
                add(stopped, "deia", time.perf_counter() - begun)
            for kind, package in SUPERVISORS.items():
                if setup.has(package):
                    with peers.Supervisor(setup, kind, count) as peer:
                        add(started, kind, peer.running_seconds)
                        time.sleep(0.5)
                        add(stopped, kind, peer.stop_seconds())
        title = f"S6, S7: {count} bots from nothing, and stopped with their supervisor, n = {setup.rounds}"
        table = Table(title, "what", "all running, s", "all ready, s", "all gone, s", "running: deia / this")
        for name, times in started.items():
            against = "" if name == "deia" else f"{started['deia'].median / times.median:.2f}"
            table.add(name, times.show(3), ready.get(name, Samples()).show(3), stopped[name].show(3), against)
        tables.append(table)
    return tables


def idle(setup):
    """S8 and S9."""
    table = Table(
        f"S8, S9: 100 idle bots, {IDLE_SECONDS} s",
        "what", "supervision, PSS MiB", "one bot, PSS MiB", "supervision, switches/s", "one bot, switches/s", "CPU of all, %",
    )  # fmt: skip

    def measure(name, supervisors, bots):
        time.sleep(3)
        everything = [*supervisors, *bots]
        cpu, ours, theirs = total(processes.cpu_seconds, everything), total(processes.switches, supervisors), total(processes.switches, bots)
        time.sleep(IDLE_SECONDS)
        cpu = total(processes.cpu_seconds, everything) - cpu
        ours = total(processes.switches, supervisors) - ours
        theirs = total(processes.switches, bots) - theirs
        table.add(
            name,
            f"{total(processes.pss_mib, supervisors):.1f}",
            f"{statistics.median(processes.pss_mib(pid) for pid in bots):.2f}",
            f"{ours / IDLE_SECONDS:.1f}",
            f"{theirs / IDLE_SECONDS / len(bots):.2f}",
            f"{cpu / IDLE_SECONDS * 100:.2f}",
        )

    with Fleet(setup, 100) as fleet:
        fleet.await_events("bot_ready", 100)
        measure("deia", [fleet.process.pid], list(fleet.bots().values()))
    for kind, package in SUPERVISORS.items():
        if setup.has(package):
            with peers.Supervisor(setup, kind, 100) as peer:
                measure(kind, peer.supervisors(), list(peer.pids.values()))
    return [table]


def daemon_start(setup):
    """S12."""
    times = Samples()
    for _ in range(setup.count(STARTS, least=5)):
        with Fleet(setup, 1) as fleet:
            times.append(fleet.ready_ms)
    table = Table(f"S12: exec to READY, empty store, n = {len(times)}", "what", "p50, ms (min-max)")
    table.add("deia", times.show(1))
    return [table]


def total(of, pids):
    return sum(of(pid) for pid in pids)


def last(events):
    return max(at(event) for event in events)


def add(to, name, value):
    to.setdefault(name, Samples()).append(value)


def bot_of(event):
    return event.get("bot_id") or event["bot"]
