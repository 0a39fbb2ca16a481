#!/usr/bin/env python3
"""An external bot for deia, in one file and with nothing but Python's standard library.

Register it once, as an operator, and keep the secret that is shown:

    deiactl bot register far --max 2

Then run it wherever it can reach the daemon:

    DEIA_URL=http://127.0.0.1:8001 DEIA_BOT=far DEIA_BOT_SECRET=whsec_... python3 external_bot.py

It leases tasks, works on them (`work`, below: replace it), says every few seconds that it is there and what it
has, and brings the results. It may be killed at any moment, and so may the daemon: what it had is done by its next
run, and a result whose answer was lost is sent again until it is known to count.
"""

import argparse
import base64
import hashlib
import hmac
import json
import os
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid


def work(task, is_cancelled):
    """Does a task and returns its output; an exception is its failure. Replace it."""
    return task["content"].upper()


class Refused(Exception):
    """The daemon said no, and will say so again."""

    def __init__(self, status, code, error):
        super().__init__(f"{status} {code}: {error}")
        self.status, self.code = status, code


class Bot:
    """One run of the program."""

    def __init__(self, url, bot, secret, at_once, pause):
        self.url, self.bot, self.at_once, self.pause = url.rstrip("/"), bot, at_once, pause
        prefix, _, encoded = secret.partition("_")
        if prefix != "whsec":
            raise SystemExit("the secret begins with whsec_: `deiactl bot register` shows it once")
        self.secret = base64.b64decode(encoded)
        # Another run has another one: so the daemon knows that what this one had is lost with it.
        self.instance = uuid.uuid4().hex
        self.heartbeat_seconds = 5.0
        self.lock = threading.Lock()
        self.tasks = {}  # task_id -> is it to be given up?
        self.ended = threading.Event()

    def call(self, path, body, timeout=30):
        """Sends a signed request until it is answered; each try is signed anew, under a name of its own."""
        data = json.dumps(body).encode()
        while True:
            name, now = f"msg_{uuid.uuid4().hex}", str(int(time.time()))
            signed = hmac.new(self.secret, b".".join([name.encode(), now.encode(), data]), hashlib.sha256)
            request = urllib.request.Request(
                f"{self.url}/api/bots/{self.bot}/{path}",
                data=data,
                headers={
                    "content-type": "application/json",
                    "webhook-id": name,
                    "webhook-timestamp": now,
                    "webhook-signature": "v1," + base64.b64encode(signed.digest()).decode(),
                },
            )
            try:
                with urllib.request.urlopen(request, timeout=timeout) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError as error:
                try:
                    said = json.load(error)
                except ValueError:
                    said = {}
                if error.code not in (429, 503):
                    raise Refused(error.code, said.get("code", ""), said.get("error", said)) from None
                pause = float(error.headers.get("retry-after") or 1)
                print(f"{path}: {said.get('code')}; again in {pause:.0f} s", file=sys.stderr)
            except (OSError, ValueError) as error:
                # The daemon is away, or its answer was lost: it may have been done, or not.
                pause = self.pause
                print(f"{path}: {error}; again in {pause} s", file=sys.stderr)
            if self.ended.wait(pause):
                raise SystemExit(0)

    def beat(self):
        """Says that it is there, and what it has."""
        with self.lock:
            named = list(self.tasks)
        answer = self.call("heartbeat", {"instance": self.instance, "tasks": named})
        self.heartbeat_seconds = answer["heartbeat_seconds"]
        with self.lock:
            for task in answer["cancel"] + answer["lost"]:
                if task in self.tasks:
                    self.tasks[task] = True

    def beats(self):
        while not self.ended.wait(min(self.heartbeat_seconds, 5.0)):
            try:
                self.beat()
            except Refused as refused:
                self.end(refused)

    def end(self, refused):
        """Another run has taken over, or the secret is not the right one any more: there is nothing left to do."""
        print(f"ending: {refused}", file=sys.stderr)
        self.ended.set()

    def do(self, task):
        name, of = task["task_id"], {"lease": task["lease"]}
        try:
            output = work(task, lambda: self.tasks.get(name, True))
            path, body = f"tasks/{name}/complete", {"output": output, **of}
        except Exception as error:  # Whatever goes wrong in it is the task's failure.
            path, body = f"tasks/{name}/fail", {"error": f"{type(error).__name__}: {error}", **of}
        try:
            self.call(path, body)
        except Refused as refused:
            # 409 `late`: it was given to another, or cancelled. Nothing is wrong.
            print(f"{name}: {refused}", file=sys.stderr)
        finally:
            with self.lock:
                self.tasks.pop(name, None)

    def run(self):
        self.beat()
        threading.Thread(target=self.beats, daemon=True).start()
        workers = threading.BoundedSemaphore(self.at_once)
        while not self.ended.is_set():
            workers.acquire()
            try:
                body = {"max": 1, "wait_seconds": 20, "instance": self.instance}
                answer = self.call("lease", body, timeout=60)
            except Refused as refused:
                self.end(refused)
                break
            if not answer["tasks"]:
                workers.release()
                continue
            task = answer["tasks"][0]
            with self.lock:
                self.tasks[task["task_id"]] = False

            def one(task=task):
                try:
                    self.do(task)
                finally:
                    workers.release()

            threading.Thread(target=one, daemon=True).start()
        return 1


def main():
    parser = argparse.ArgumentParser(description="An external bot for deia")
    parser.add_argument("--url", default=os.environ.get("DEIA_URL", "http://127.0.0.1:8001"))
    parser.add_argument("--bot", default=os.environ.get("DEIA_BOT"), help="its name ($DEIA_BOT)")
    parser.add_argument("--at-once", type=int, default=int(os.environ.get("DEIA_AT_ONCE", "1")))
    parser.add_argument("--pause", type=float, default=1.0, help="seconds before an unanswered request is sent again")
    arguments = parser.parse_args()
    # Not as an argument: every user of the host can read those.
    secret = os.environ.get("DEIA_BOT_SECRET")
    if not arguments.bot or not secret:
        parser.error("its name (--bot) and its secret ($DEIA_BOT_SECRET) are needed")
    bot = Bot(arguments.url, arguments.bot, secret, arguments.at_once, arguments.pause)
    try:
        return bot.run()
    except Refused as refused:
        print(f"refused: {refused}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
