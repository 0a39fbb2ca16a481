"""S13: a message from bot to bot."""

import json
import socket
import time
from pathlib import Path

from .fleet import Fleet
from .table import Samples, Table, percentile

OFFERED_PER_SECOND = 100
DELIVERY_TIMEOUT = 10.0


class Admin:
    """HTTP over the daemon's admin socket, one connection. Nothing of a library's is in what is timed."""

    def __init__(self, path):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(DELIVERY_TIMEOUT)
        self.sock.connect(path)

    def ask(self, method, path, body=None):
        """The answer's body, and how long it took, in milliseconds."""
        text = b"" if body is None else json.dumps(body).encode()
        head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        request = head.encode() + text
        sent_at = time.perf_counter()
        self.sock.sendall(request)
        answer = self.sock.recv(65_536)
        took = (time.perf_counter() - sent_at) * 1e3
        while b"\r\n\r\n" not in answer:
            answer += self.more()
        head, _, text = answer.partition(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        while len(text) < length:
            text += self.more()
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"{method} {path}: {head[9:12]} {text[:200]}")
        return json.loads(text), took

    def more(self):
        part = self.sock.recv(65_536)
        if not part:
            raise RuntimeError("the daemon closed the connection in the middle of an answer")
        return part


def message(setup):
    """S13: answered, which is durable; and in the other bot's inbox, as its reader sees it."""
    count = setup.count(1_000)
    rows = {"answered: it is durable": [], "delivered, as the receiver sees it": []}
    for _ in range(setup.rounds):
        answered, delivered = [], []
        with Fleet(setup, 2) as fleet:
            admin = Admin(str(Path(fleet.home) / ".deia/run/admin.sock"))
            begin = time.perf_counter()
            for n in range(count):
                # At a rate, not as fast as it goes.
                time.sleep(max(0.0, begin + n / OFFERED_PER_SECOND - time.perf_counter()))
                sent_at = time.perf_counter()
                body = {"from_bot": "main", "to_bot": "main-2", "content": "x" * 256}
                sent, took = admin.ask("POST", "/api/messaging/send", body)
                answered.append(took)
                await_delivery(admin, sent["message_id"])
                delivered.append((time.perf_counter() - sent_at) * 1e3)
                admin.ask("POST", f"/api/messaging/read/{sent['message_id']}")
        for times, row in zip((answered, delivered), rows.values()):
            row.append((percentile(times, 0.5), percentile(times, 0.99)))
    title = f"S13: a message, {OFFERED_PER_SECOND}/s offered, {count} of 256 bytes, n = {setup.rounds}"
    table = Table(title, "what", "p50, ms", "p99, ms")
    for name, row in rows.items():
        table.add(name, Samples(p50 for p50, _ in row).show(2), Samples(p99 for _, p99 in row).show(2))
    return [table]


def await_delivery(admin, name):
    deadline = time.monotonic() + DELIVERY_TIMEOUT
    while True:
        newest = admin.ask("GET", "/api/messaging/inbox?bot_id=main-2&limit=1")[0]["messages"]
        if newest and newest[0]["message_id"] == name and newest[0]["status"] != "pending":
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"message {name} was not delivered within {DELIVERY_TIMEOUT} s")
