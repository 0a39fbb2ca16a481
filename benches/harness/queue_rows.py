"""S1 to S4: submissions, tasks run, how long a task waits for a bot, and all that with a full queue."""

from . import peers, processes
from .fleet import Fleet
from .table import Samples, Table, percentile, ratio

BYTES = 256
CLIENTS = 16
BATCH = 100
PRODUCERS = CONSUMERS = 8
OFFERED_PER_SECOND = 100


class Contest:
    """Contestants that take turns, round after round, so that each ratio is of neighbours in time."""

    def __init__(self, ours):
        self.ours = ours
        self.rate = {}
        self.cpu = {}

    def add(self, name, per_second, cpu_us=None):
        self.rate.setdefault(name, Samples()).append(per_second)
        if cpu_us is not None:
            self.cpu.setdefault(name, Samples()).append(cpu_us)

    def table(self, title):
        table = Table(title, "what", "per second, median (min-max)", "server CPU per task, µs", "deia / this")
        for name, rates in self.rate.items():
            against = "" if name == self.ours else ratio(self.rate[self.ours], rates).show(2)
            table.add(name, rates.show(), self.cpu.get(name, Samples()).show(1), against)
        return table


def submit(setup):
    """S1."""
    tasks = setup.count(20_000)
    one = Contest("deia, HTTP and JSON")
    for _ in range(setup.rounds):
        with Fleet(setup, 1) as fleet:
            got = fleet.bench("--submit-only", *options("held", tasks, CLIENTS))
            one.add(one.ours, got["submits_per_second"], got["cpu_us"])
        with Fleet(setup, 8) as fleet:
            got = fleet.bench("--submit-only", *options("main", tasks, CLIENTS))
            one.add("deia, 8 bots at work on them", got["submits_per_second"])
        if setup.has("redis-server"):
            with peers.redis(setup) as server:
                got = server.redis_benchmark(tasks, CLIENTS, BYTES, 1)
                one.add("Redis appendfsync always, redis-benchmark", got["submits_per_second"], got["cpu_us"])
            with peers.redis(setup) as server:
                got = server.load("submit", tasks, CLIENTS, 0, BYTES)
                one.add("Redis appendfsync always, threads like ours", got["submits_per_second"], got["cpu_us"])
        if setup.has("beanstalkd"):
            with peers.beanstalkd(setup) as server:
                got = server.load("submit", setup.count(5_000), CLIENTS, 0, BYTES)
                one.add("beanstalkd -f0", got["submits_per_second"], got["cpu_us"])
        one.add("SQLite FULL alone, one insert a commit", peers.sqlite_submits_per_second(setup, setup.count(5_000), BYTES))

    many = Contest("deia, HTTP and JSON")
    tasks = setup.count(100_000)
    for _ in range(setup.rounds):
        with Fleet(setup, 1) as fleet:
            got = fleet.bench("--submit-only", *options("held", tasks, CLIENTS), "--batch", str(BATCH))
            many.add(many.ours, got["submits_per_second"], got["cpu_us"])
        if setup.has("redis-server"):
            with peers.redis(setup) as server:
                got = server.redis_benchmark(tasks, CLIENTS, BYTES, BATCH)
                many.add("Redis appendfsync always, pipelined", got["submits_per_second"], got["cpu_us"])
    return [
        one.table(f"S1: durable submissions, {CLIENTS} clients, {BYTES} bytes, n = {setup.rounds}"),
        many.table(f"S1: the same by {BATCH} in a request, n = {setup.rounds}"),
    ]


def run(setup):
    """S2."""
    tasks = setup.count(10_000)
    contest = Contest("deia, echo bots")
    for _ in range(setup.rounds):
        with Fleet(setup, CONSUMERS) as fleet:
            got = fleet.bench(*options("main", tasks, PRODUCERS))
            contest.add(contest.ours, got["tasks_per_second"], got["cpu_us"])
        if setup.has("redis-server"):
            with peers.redis(setup) as server:
                got = server.load("run", tasks, PRODUCERS, CONSUMERS, BYTES)
                contest.add("Redis appendfsync always", got["tasks_per_second"], got["cpu_us"])
        if setup.has("beanstalkd"):
            with peers.beanstalkd(setup) as server:
                got = server.load("run", setup.count(2_000), PRODUCERS, CONSUMERS, BYTES)
                contest.add("beanstalkd -f0", got["tasks_per_second"], got["cpu_us"])
    title = f"S2: submitted, run, result durable; {PRODUCERS} producers, {CONSUMERS} bots, n = {setup.rounds}"
    return [contest.table(title)]


def wait(setup):
    """S3."""
    tasks = setup.count(500)
    p50, p99, routing = {}, {}, Samples()

    def add(name, figures):
        p50.setdefault(name, Samples()).append(figures["start_ms_p50"])
        p99.setdefault(name, Samples()).append(figures["start_ms_p99"])

    for _ in range(setup.rounds):
        with Fleet(setup, 100) as fleet:
            fleet.settle(100)
            add("deia, 100 bots", fleet.bench(*options("main", tasks, 4), "--rate", str(OFFERED_PER_SECOND)))
            routed = fleet.await_events("task_routed", tasks)
            routing.append(percentile([event["microseconds"] for event in routed], 0.99))
        with Fleet(setup, CONSUMERS) as fleet:
            fleet.settle(CONSUMERS)
            add("deia, 8 bots", fleet.bench(*options("main", tasks, 4), "--rate", str(OFFERED_PER_SECOND)))
        if setup.has("redis-server"):
            with peers.redis(setup) as server:
                add("Redis appendfsync always", server.load("run", tasks, 4, CONSUMERS, BYTES, OFFERED_PER_SECOND))
        if setup.has("beanstalkd"):
            with peers.beanstalkd(setup) as server:
                add("beanstalkd -f0", server.load("run", tasks, 4, CONSUMERS, BYTES, OFFERED_PER_SECOND))
    title = f"S3: submission to a bot's start, {OFFERED_PER_SECOND}/s offered, {tasks} tasks, n = {setup.rounds}"
    table = Table(title, "what", "p50, ms", "p99, ms")
    for name in p50:
        table.add(name, p50[name].show(2), p99[name].show(2))
    table.add("routing decision with 100 bots, µs", "", routing.show())
    return [table]


def queued(setup):
    """S4: what a task costs behind few and behind many that wait, and a start with them."""
    tasks = setup.count(5_000)
    few, many = 1_000, setup.count(1_000_000)
    submits, runs, starts, memory = ({few: Samples(), many: Samples()} for _ in range(4))
    for _ in range(setup.rounds):
        for waiting in (few, many):
            with Fleet(setup, CONSUMERS) as fleet:
                fleet.bench("--submit-only", *options("held", waiting, 4), "--batch", "1000")
                got = fleet.bench("--submit-only", *options("held", tasks, CLIENTS))
                submits[waiting].append(got["submits_per_second"])
                got = fleet.bench(*options("main", tasks, PRODUCERS))
                runs[waiting].append(got["tasks_per_second"])
                starts[waiting].append(fleet.start_again() / 1e3)
                memory[waiting].append(processes.pss_mib(fleet.process.pid))
    title = f"S4: {tasks} tasks, behind others that wait, n = {setup.rounds}"
    table = Table(title, "waiting", "submitted per second", "run per second", "start until READY, s", "daemon's PSS after it, MiB")
    for waiting in (few, many):
        table.add(f"{waiting:,}", submits[waiting].show(), runs[waiting].show(), starts[waiting].show(2), memory[waiting].show(1))
    cost = [ratio(rates[few], rates[many]).show(2) for rates in (submits, runs)]
    table.add("cost of one, many over few", *cost, "", "")
    return [table]


def options(pool, tasks, clients):
    return ["--pool", pool, "--tasks", str(tasks), "--clients", str(clients), "--content-bytes", str(BYTES)]
