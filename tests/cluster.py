"""`make cluster-test`: three gateways, two schedulers, three executors and a real Redis on this machine, under
load, while each role is killed, paused and drained; then the counts are told, and what must hold is checked:

- a function with reserved concurrency K never runs K+1 times at once (counted by a listener that functions hold
a
  connection to while they run);
- no event that got its 202 is lost; no request fails but those whose own gateway or executor was killed;
- no request that is sent after an update's success runs the old code;
- the ledger has every answered execution once, and no more than were begun.

    PYTHONPATH=tests python -m cluster --seconds 90 --seed 1
"""

import argparse
import contextlib
import http.client
import json
import random
import signal
import socket
import socketserver
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from roles import ClusterOf, Role
from running import ROLE, RUNTIME, zipped

K = 4
CODE = """
    import os, socket, time

    CODE = {code}

    def handler(event, context):
        began = time.time()
        with socket.create_connection(("127.0.0.1", int(os.environ["PORT"])), 5) as truth:
            truth.settimeout(None)
            truth.sendall(f"{{os.environ['NAME']}} {{event['id']}} {{CODE}}\\n".encode())
            assert truth.recv(3) == b"ok\\n"
            time.sleep(event.get("seconds", 0))
            truth.sendall(b"end\\n")
            assert truth.recv(3) == b"ok\\n"
        return {{"id": event["id"], "code": CODE}}
    """


class Truth(socketserver.ThreadingTCPServer):
    """What really runs."""

    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Run)
        self._open: set[socket.socket] = set()
        self.lock = threading.Lock()
        self.running: Counter[str] = Counter()
        self.peaks: Counter[str] = Counter()
        self.begun: Counter[str] = Counter()
        self.ended: Counter[str] = Counter()
        self.by_id: Counter[str] = Counter()
        self.old_code: list[str] = []
        self.settled: dict[str, int] = {}
        self.settled_at: list[tuple[float, int]] = []
        self._thread = threading.Thread(target=self.serve_forever, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def end(self) -> None:
        """Once the cluster has ended: whoever still holds a connection is a relay that nobody waits for."""
        self.shutdown()
        with self.lock:
            for each in self._open:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
        self.server_close()
        self._thread.join(10)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self.lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self.lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def answered(self, sent: float, code: int) -> None:
        """A request to `updated` that was sent at `sent` was answered by that code."""
        with self.lock:
            newest = max((each for at, each in self.settled_at if at <= sent), default=1)
            if code < newest:
                self.old_code.append(f"a request that was sent after {newest} was there ran code {code}")

    def begins(self, name: str) -> None:
        with self.lock:
            self.begun[name] += 1
            self.running[name] += 1
            self.peaks[name] = max(self.peaks[name], self.running[name])

    def ends(self, name: str, id: str, *, whole: bool) -> None:
        with self.lock:
            self.running[name] -= 1
            if whole:
                self.ended[name] += 1
                self.by_id[id] += 1


class _Run(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        truth = self.server
        assert isinstance(truth, Truth)
        name, id, whole = "", "", False
        with contextlib.suppress(ConnectionResetError):
            first = self.rfile.readline().decode().split()
            if len(first) != 3:
                return
            name, id = first[0], first[1]
            truth.begins(name)
            with contextlib.suppress(BrokenPipeError):
                self.wfile.write(b"ok\n")
                whole = self.rfile.readline() == b"end\n"
        # Counted before the function may go on: its slot is free only after that.
        truth.ends(name, id, whole=whole)
        with contextlib.suppress(OSError):
            self.wfile.write(b"ok\n")


@dataclass
class Load:
    """Threads that call gateways that live, and count what they get."""

    cluster: ClusterOf
    truth: Truth
    answers: Counter[str] = field(default_factory=Counter)
    accepted: set[str] = field(default_factory=set)
    slowest: float = 0.0
    slowest_of_all: float = 0.0
    ok: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._over = threading.Event()
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self.unexpected: list[tuple[float, str]] = []

    def start(
        self, name: str, threads: int, seconds: float, *, queued: bool = False, pause: float = 0.0
    ) -> None:
        for number in range(threads):
            work = threading.Thread(target=self._run, args=(name, number, seconds, queued, pause), daemon=True)
            self._threads.append(work)
            work.start()

    def slowest_since(self) -> float:
        """Since the last call."""
        with self._lock:
            found, self.slowest = self.slowest, 0.0
            self.slowest_of_all = max(found, self.slowest_of_all)
        return found

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _run(self, name: str, number: int, seconds: float, queued: bool, pause: float) -> None:
        draw = random.Random(number)
        connection: http.client.HTTPConnection | None = None
        gateway: Role | None = None
        while True:
            if self._over.is_set():
                if connection is not None:
                    connection.close()
                return
            if connection is None:
                gateway = draw.choice([each for each in self.cluster.gateways if each.alive])
                connection = http.client.HTTPConnection("127.0.0.1", gateway.port, timeout=60)
            id = uuid.uuid4().hex
            body = json.dumps({"id": id, "seconds": seconds * draw.uniform(0.5, 1.5)})
            headers = {"X-Amz-Invocation-Type": "Event"} if queued else {}
            began = time.monotonic()
            try:
                connection.request("POST", f"/2015-03-31/functions/{name}/invocations", body, headers)
                response = connection.getresponse()
                said = response.read()
            except (OSError, http.client.HTTPException):
                connection.close()
                connection = None
                assert gateway is not None
                self._count("its gateway died" if not gateway.alive or gateway.dying else "connection lost", "")
                continue
            self._answered(name, id, response, said, time.monotonic() - began, queued)
            if name == "updated" and response.status == 200 and b'"code"' in said:
                self.truth.answered(began, json.loads(said)["code"])
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
            time.sleep(pause)

    def _answered(
        self, name: str, id: str, response: http.client.HTTPResponse, said: bytes, took: float, queued: bool
    ) -> None:
        if queued and response.status == 202:
            with self._lock:
                self.accepted.add(id)
            self._count("202", "")
            return
        with self._lock:
            self.slowest = max(self.slowest, took)
            if response.status == 200 and not response.getheader("x-amz-function-error"):
                self.ok[name] += 1
        if response.status == 200 and not response.getheader("x-amz-function-error"):
            self._count("ok", "")
        elif response.status == 429:
            reason = json.loads(said).get("Reason")
            self._count(f"429 {reason}", "")
        else:
            text = said.decode("utf-8", "replace")[:200]
            known = next((word for word in ("broke", "stopping", "executor") if word in text), "")
            self._count(f"{response.status} {known or 'unexpected'}", f"{response.status} {text}")

    def _count(self, what: str, unexpected: str) -> None:
        with self._lock:
            self.answers[what] += 1
            if unexpected:
                self.unexpected.append((time.monotonic(), unexpected))


@dataclass
class Verdict:
    """What a run came to."""

    lines: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return "\n".join([*self.lines, *(f"PROBLEM {each}" for each in self.problems)])


class Trial:
    """A cluster, its functions, its load and its faults."""

    def __init__(self, cluster: ClusterOf, truth: Truth, say: Callable[[str], None]) -> None:
        self.cluster, self.truth, self.say = cluster, truth, say
        self.load = Load(cluster, truth)
        self.killed_with = 0
        self.kills: list[float] = []

    def functions(self) -> None:
        with contextlib.closing(self.cluster.gateways[0].client()) as aws:
            self._make_functions(aws)

    @staticmethod
    def _variables(truth: Truth, name: str) -> dict[str, dict[str, str]]:
        return {"Variables": {"PORT": str(truth.port), "NAME": name}}

    def _make_functions(self, aws: Any) -> None:
        for name in ("limited", "free", "queued", "updated"):
            aws.create_function(
                FunctionName=name,
                Code={"ZipFile": zipped({"app.py": _code(1)})},
                Runtime=RUNTIME,
                Handler="app.handler",
                Role=ROLE,
                Timeout=20,
                Environment=self._variables(self.truth, name),
            )
        for name in ("limited", "free", "queued", "updated"):
            aws.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
        aws.put_function_concurrency(FunctionName="limited", ReservedConcurrentExecutions=K)

    def run(self, seconds: float) -> None:
        self.load.start("limited", 12, 0.05)
        self.load.start("free", 6, 0.02)
        self.load.start("updated", 3, 0.01)
        self.load.start("queued", 2, 0.02, queued=True, pause=0.05)
        time.sleep(min(8.0, seconds / 10))
        self.say(f"    slowest answer {self.load.slowest_since():.1f} s, while environments started")
        self.load.slowest_of_all = 0.0
        faults = [
            self._kill_gateway,
            self._kill_scheduler,
            self._update,
            self._kill_executor,
            self._drain_executor,
            self._pause_scheduler,
            self._update,
        ]
        rest = max(1.0, (seconds - 10) / len(faults))
        for fault in faults:
            self.say(fault.__name__.strip("_").replace("_", " "))
            began = time.monotonic()
            fault()
            time.sleep(max(0.5, rest - (time.monotonic() - began)))
            self.say(f"    slowest answer {self.load.slowest_since():.1f} s")
        self.load.stop()

    def _kill_gateway(self) -> None:
        victim = self.cluster.gateways[-1]
        victim.dying = True
        victim.kill()
        time.sleep(1.0)
        victim.start()
        victim.dying = False

    def _kill_scheduler(self) -> None:
        victim = self.cluster.schedulers[0]
        victim.kill()
        time.sleep(6.0)
        victim.start()

    def _kill_executor(self) -> None:
        victim = self.cluster.executors[0]
        with self.truth.lock:
            self.killed_with += sum(self.truth.running.values())
        self.kills.append(time.monotonic())
        victim.kill()
        time.sleep(2.0)
        victim.start()

    def _drain_executor(self) -> None:
        """An orderly stop moves work away: no request may fail by it."""
        victim = self.cluster.executors[1]
        before = len(self.load.unexpected)
        code = victim.stop()
        time.sleep(1.0)
        failed = self.load.unexpected[before:]
        if code or failed:
            raise AssertionError(f"a drain ended with {code}, and {len(failed)} requests failed: {failed[:3]}")
        victim.start()

    def _pause_scheduler(self) -> None:
        victim = self.cluster.schedulers[1]
        victim.signal(signal.SIGSTOP)
        time.sleep(8.0)
        victim.signal(signal.SIGCONT)

    def _update(self) -> None:
        with contextlib.closing(self.cluster.gateways[0].client()) as aws:
            self._update_code(aws)

    def _update_code(self, aws: Any) -> None:
        code = self.truth.settled.get("updated", 1) + 1
        aws.update_function_code(FunctionName="updated", ZipFile=zipped({"app.py": _code(code)}))
        until = time.monotonic() + 60
        while True:
            now = aws.get_function_configuration(FunctionName="updated")
            if now["LastUpdateStatus"] == "Successful":
                break
            assert time.monotonic() < until, f"the update stays {now['LastUpdateStatus']}"
            time.sleep(0.02)
        with self.truth.lock:
            self.truth.settled["updated"] = code
            self.truth.settled_at.append((time.monotonic(), code))

    def verdict(self) -> Verdict:
        truth, load, verdict = self.truth, self.load, Verdict()
        until = time.monotonic() + 180
        while (lost := [id for id in load.accepted if not truth.by_id[id]]) and time.monotonic() < until:
            time.sleep(0.5)
        ledger = self._ledger(until)
        again = sum(truth.by_id[id] > 1 for id in load.accepted)
        verdict.lines = [
            "answers: " + ", ".join(f"{count} x {what}" for what, count in load.answers.most_common()),
            f"slowest answer: {max(load.slowest, load.slowest_of_all):.1f} s",
            f"limited: {truth.peaks['limited']} at once at the most, {K} are reserved",
            f"events: {len(load.accepted)} accepted, {len(lost)} lost, {again} ran more than once",
            f"updated: {len(truth.old_code)} requests ran old code after an update's success",
            f"executions: {sum(truth.begun.values())} begun, {sum(truth.ended.values())} ended, "
            f"{ledger} in the ledger; {self.killed_with} ran when their executor was killed",
        ]
        if truth.peaks["limited"] != K:
            verdict.problems.append(f"limited ran {truth.peaks['limited']} times at once, not {K}")
        if lost:
            verdict.problems.append(f"{len(lost)} events are lost")
        verdict.problems += truth.old_code[:5]
        # Whoever was on its way to a killed executor, or starting there, is told so.
        strange = [each for at, each in load.unexpected if not ("broke" in each and self._killed_at(at))]
        verdict.problems += [f"a client got: {each}" for each in strange[:10]]
        if load.answers["connection lost"]:
            verdict.problems.append(f"{load.answers['connection lost']} connections to a living gateway ended")
        answered = load.answers["ok"]
        if not answered <= ledger <= sum(truth.begun.values()):
            verdict.problems.append("the ledger has fewer than were answered, or more than were begun")
        if sum(truth.ended.values()) - ledger > self.killed_with:
            verdict.problems.append("executions that ended are not in the ledger")
        return verdict

    def _killed_at(self, at: float) -> bool:
        return any(kill <= at <= kill + 5 for kill in self.kills)

    def _ledger(self, until: float) -> int:
        """Executions by the ledger, once it has come to rest."""
        seen = -1
        while time.monotonic() < until:
            connection = http.client.HTTPConnection("127.0.0.1", self.cluster.gateways[0].port, timeout=30)
            connection.request("GET", "/_lambent/usage?by=function")
            rows = json.loads(connection.getresponse().read())["rows"]
            connection.close()
            count = sum(row["invocations"] for row in rows)
            if count == seen:
                break
            seen = count
            time.sleep(3.0)
        return seen


def _code(number: int) -> str:
    import textwrap

    return textwrap.dedent(CODE.format(code=number))


def run(folder: Path, seconds: float, say: Callable[[str], None]) -> Verdict:
    """The whole trial."""
    truth = Truth()
    environment = {"LAMBENT_REACHABLE": f"tcp://127.0.0.1:{truth.port}"}
    try:
        with ClusterOf(folder, gateways=3, schedulers=2, executors=3, environment=environment) as cluster:
            say("three gateways, two schedulers, three executors serve")
            trial = Trial(cluster, truth, say)
            trial.functions()
            trial.run(seconds)
            return trial.verdict()
    finally:
        truth.end()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=90.0)
    parser.add_argument("--keep", type=Path, help="a folder for the data and the logs, which stays")
    given = parser.parse_args()
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    with contextlib.ExitStack() as stack:
        folder = given.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lambent-cluster-")))
        folder.mkdir(parents=True, exist_ok=True)
        verdict = run(folder, given.seconds, say)
    print(verdict)
    return 1 if verdict.problems else 0


if __name__ == "__main__":
    sys.exit(main())
