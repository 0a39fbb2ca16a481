"""A generator's requests to every operation of a daemon's own openapi.json: no fault of the daemon's, and answers that
are what the document says. Started by .ci/run with a python that has schemathesis (requirements.txt).

    python tests/api/fuzz.py target/debug/deia [SECONDS]
"""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
READY_SECONDS = 20
STOP_SECONDS = 30
CONFIGURATION = """\
http: {listen: "127.0.0.1:0", auth: tokens}
rate_limits: {requests_per_minute: 0, failed_auth_per_minute: 0}
bots: [{name: main-bot, type: general, backend: {kind: echo}}]
"""
# What ends or replaces the daemon, and what never ends by itself.
NOT_ASKED = ["/terminate", "/api/upgrade", "/events"]
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"


class Admin(http.client.HTTPConnection):
    """HTTP over the admin socket."""

    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def ask(home, method, path, body=None):
    """The answer of the daemon of this home, as JSON."""
    admin = Admin(os.path.join(home, ".deia/run/admin.sock"))
    admin.request(method, path, None if body is None else json.dumps(body))
    answer = admin.getresponse()
    text = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{method} {path}: {answer.status} {text!r}")
    return json.loads(text)


def wait_until_ready(home, daemon):
    deadline = time.monotonic() + READY_SECONDS
    while True:
        try:
            return ask(home, "GET", "/status")
        except OSError:
            if daemon.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def fuzz(home, seconds):
    """What the generator came to: its exit code."""
    port = ask(home, "GET", "/status")["port"]
    scopes = ["read", "submit", "bot", "admin"]
    token = ask(home, "POST", "/api/tokens", {"scopes": scopes})["token"]
    command = [
        os.path.join(os.path.dirname(sys.executable), "st"),
        "--config-file", os.path.join(HERE, "schemathesis.toml"),
        "run", f"http://127.0.0.1:{port}/openapi.json",
        "--header", f"Authorization: Bearer {token}",
        "--phases", "examples,coverage,fuzzing",
        "--checks", CHECKS,
        "--max-examples", "4",
        "--max-time", str(seconds),
        "--seed", "7",
        "--continue-on-failure",
        "--request-timeout", "20",
        "--warnings", "off",
        "--no-color",
    ]
    for path in NOT_ASKED:
        command += ["--exclude-path", path]
    return subprocess.run(command, cwd=home, check=False).returncode


def main():
    program = os.path.abspath(sys.argv[1])
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 60
    with tempfile.TemporaryDirectory(prefix="deia-api-") as home:
        with open(os.path.join(home, "bot-config.yaml"), "w", encoding="ascii") as file:
            file.write(CONFIGURATION)
        daemon = subprocess.Popen([program, "--home", home], stderr=subprocess.DEVNULL)
        try:
            wait_until_ready(home, daemon)
            code = fuzz(home, seconds)
            ask(home, "GET", "/health/live")
        finally:
            daemon.send_signal(signal.SIGTERM)
            ended = daemon.wait(STOP_SECONDS)
        with open(os.path.join(home, ".deia/bot-logs/supervisor.jsonl"), encoding="utf-8") as log:
            faults = [line for line in log if '"ERROR"' in line]
    print("".join(faults), end="")
    if ended != 0 or faults:
        print(f"the daemon ended with {ended} and has logged {len(faults)} faults")
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
