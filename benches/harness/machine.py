"""What the figures were taken on, and how quiet it was."""

import os
import platform
import statistics
import subprocess
import tempfile
import time

SYNC_BYTES = 512
SYNC_COUNT = 300


def facts(directory):
    """Name and value of each thing that decides how fast a store can be."""
    return [
        ("cores", str(os.cpu_count())),
        ("memory", f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.1f} GiB"),
        ("kernel", platform.release()),
        ("filesystem", filesystem(directory)),
        (f"fdatasync of {SYNC_BYTES} B, p50", f"{sync_ms(directory):.3f} ms (n = {SYNC_COUNT})"),
        ("load average", load()),
    ]


def load():
    """The three load averages: above the number of the script's own processes, others were at work."""
    with open("/proc/loadavg", encoding="ascii") as file:
        return " ".join(file.read().split()[:3])


def sync_ms(directory):
    """Median milliseconds of an appended write and fdatasync."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        for _ in range(SYNC_COUNT):
            begun = time.perf_counter()
            os.write(file.fileno(), b"x" * SYNC_BYTES)
            os.fdatasync(file.fileno())
            times.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(times)


def filesystem(directory):
    """Type of the file system below `directory`."""
    said = subprocess.run(["df", "--output=fstype", directory], capture_output=True, text=True, check=True)
    return said.stdout.split()[-1]


def version(argv):
    """The first line a program says about itself; None when it is not installed."""
    try:
        said = subprocess.run(argv, capture_output=True, text=True, timeout=10, check=False)
    except OSError:
        return None
    lines = (said.stdout + said.stderr).strip().splitlines()
    return lines[0] if lines else "installed"


def package(name):
    """A Debian package's version; None when it is not installed."""
    argv = ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Version}", name]
    try:
        said = subprocess.run(argv, capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    status, _, found = said.partition(" ")
    return found if status == "installed" else None
