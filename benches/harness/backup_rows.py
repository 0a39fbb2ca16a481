"""Backups: how long and how large at 1,000, 100,000 and 1,000,000 tasks, and what routing notices of one."""

import json
import os
import subprocess
import threading
import time

from .fleet import Fleet
from .queue_rows import BYTES, CONSUMERS, OFFERED_PER_SECOND, options
from .table import Samples, Table, percentile, ratio

SIZES = (1_000, 100_000, 1_000_000)
BACKUP_TIMEOUT = 600
# Of a restore: everything is checked, what is there is backed up first, the daemon starts itself anew.
RESTORE_TIMEOUT = 1_200


def sizes(setup):
    """Seconds and bytes of a backup and its restore."""
    figures = {}
    for _ in range(setup.rounds):
        for size in dict.fromkeys(setup.count(size, 100) for size in SIZES):
            row = figures.setdefault(size, [Samples() for _ in range(5)])
            with Fleet(setup, 1) as fleet:
                fleet.bench("--submit-only", *options("held", size, 4), "--batch", str(min(size, 1000)))
                time.sleep(1)  # idle: the log is copied into the store
                store = os.path.getsize(os.path.join(fleet.home, ".deia/state/deia.db"))
                begun = time.perf_counter()
                made = ctl(fleet, BACKUP_TIMEOUT, "backup", "create", "--json")
                row[0].append(time.perf_counter() - begun)
                archive = os.path.join(fleet.home, ".deia/backups", f"{made['backup_id']}.tar.gz")
                row[1].append(os.path.getsize(archive) / 2**20)
                row[2].append(store / 2**20)
                begun = time.perf_counter()
                ctl(fleet, BACKUP_TIMEOUT, "backup", "verify", made["backup_id"], "--json")
                row[3].append(time.perf_counter() - begun)
                begun = time.perf_counter()
                ctl(fleet, RESTORE_TIMEOUT, "restore", made["backup_id"], "--yes", "--json")
                row[4].append(time.perf_counter() - begun)
    title = f"Backup and restore, contents of {BYTES} bytes, n = {setup.rounds}"
    table = Table(title, "tasks", "backup, s", "archive, MiB", "store, MiB", "verify, s", "restore until the fleet is back, s")
    for size, (backup, archive, store, verify, restore) in figures.items():
        table.add(f"{size:,}", backup.show(2), archive.show(1), store.show(1), verify.show(2), restore.show(2))
    return [table]


def noticed(setup):
    """What a submission waits, and how long a choice takes, while backups are made one after the other."""
    tasks = setup.count(2_000)
    behind = setup.count(100_000, 100)
    names = ("without", "while backups are made")
    p50, p99, routing = ({name: Samples() for name in names} for _ in range(3))
    for _ in range(setup.rounds):
        for name in names:
            with Fleet(setup, CONSUMERS) as fleet:
                fleet.bench("--submit-only", *options("held", behind, 4), "--batch", "1000")
                since = time.time()
                with Backups(fleet, name != names[0]):
                    got = fleet.bench(*options("main", tasks, 4), "--rate", str(OFFERED_PER_SECOND))
                p50[name].append(got["start_ms_p50"])
                p99[name].append(got["start_ms_p99"])
                routed = fleet.await_events("task_routed", tasks, since)
                routing[name].append(percentile([event["microseconds"] for event in routed], 0.99))
    title = f"Routing while backups are made, {behind:,} tasks in the store, {OFFERED_PER_SECOND}/s offered, {tasks} tasks, n = {setup.rounds}"
    table = Table(title, "", "start p50, ms", "start p99, ms", "routing decision p99, µs")
    for name in names:
        table.add(name, p50[name].show(2), p99[name].show(2), routing[name].show())
    table.add("with over without", *(ratio(row[names[1]], row[names[0]]).show(2) for row in (p50, p99, routing)))
    return [table]


class Backups:
    """Makes one backup after the other until it is left."""

    def __init__(self, fleet, wanted):
        self.fleet = fleet
        self.wanted = wanted
        self.over = threading.Event()
        self.thread = threading.Thread(target=self._make)

    def _make(self):
        while self.wanted and not self.over.is_set():
            ctl(self.fleet, BACKUP_TIMEOUT, "backup", "create", "--json")

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def ctl(fleet, timeout, *arguments):
    """What `deiactl` says, as JSON."""
    argv = [fleet.setup.deiactl, "--home", fleet.home, *arguments]
    fleet.setup.commands.append(" ".join(argv))
    said = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if said.returncode != 0:
        raise RuntimeError(f"{' '.join(arguments)}: {said.stderr.strip()} {said.stdout.strip()}")
    return json.loads(said.stdout) if said.stdout.strip() else {}
