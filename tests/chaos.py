"""`make chaos`: an accepted event is never lost, whatever dies. Publishers and functions are under load while
the server (gateway, scheduler and executor), its Redis, the process that forks environments, and environments
are killed with -9 at random, connections to Redis are cut, the disk is full, or the dead-letter queue hangs;
afterwards every event that got a 202 must have run at least once; those that were given up are brought back
and must run then; those of a function that always fails must be in its dead-letter queue. Events that ran, or
came there, more than once are counted: at least once is the promise.

    PYTHONPATH=tests python -m chaos --seconds 120 --seed 7
"""

import argparse
import http.client
import json
import os
import random
import signal
import socket
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from collector import Collector, reporting
from disks import fill, small_disk
from moto_aws import MotoServer
from running import Functions, Server, request
from support import RedisServer, redis_binary
from traces import environments, processes

_PUBLISHERS = 8
_PAUSE_SECONDS = 0.02  # of a publisher between two events: a few hundred a second in all
_SETTLE_SECONDS = 240.0
_LARGE = "x" * 100_000  # a payload that does not lie in Redis


@dataclass
class Result:
    """What a run came to. `lost`: accepted, and neither run nor in the dead-letter queue."""

    seed: int
    accepted: int = 0
    refused: int = 0
    given_up: int = 0
    runs: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    lost: list[str] = field(default_factory=list)
    more_than_once: int = 0
    dead_letters: int = 0

    def __str__(self) -> str:
        faults = ", ".join(f"{count} x {what}" for what, count in sorted(self.faults.items()))
        return (
            f"seed {self.seed}: {self.accepted} events accepted, {self.refused} refused, {self.runs} runs, "
            f"{self.more_than_once} events ran or arrived more than once, {self.given_up} were given up and "
            f"kept, {self.dead_letters} came to the dead-letter queue, "
            f"{len(self.lost)} lost; faults: {faults}"
        )


class Publishers:
    """Threads that send events as fast as they are let, one connection each, and note which got a 202: most go
    to `function` (`accepted`), every tenth to `failing` (`doomed`)."""

    def __init__(self, server: Server, function: str, failing: str) -> None:
        self.accepted: set[str] = set()
        self.doomed: set[str] = set()
        self.refused = 0
        self._server = server
        self._function, self._failing = function, failing
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._next = iter(range(1, sys.maxsize))
        self._threads = [threading.Thread(target=self._publish) for _ in range(_PUBLISHERS)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _publish(self) -> None:
        while not self._over.wait(_PAUSE_SECONDS):
            with self._lock:
                number = next(self._next)
            event = {"id": f"event-{number}", "more": _LARGE if number % 50 == 0 else ""}
            fails = number % 10 == 0
            status = self._post(self._failing if fails else self._function, json.dumps(event).encode())
            with self._lock:
                if status == 202:
                    (self.doomed if fails else self.accepted).add(event["id"])
                else:
                    self.refused += 1
            if status == 0:
                time.sleep(0.1)

    def _post(self, function: str, body: bytes) -> int:
        """The status, 0 where nobody answered: that event may have been accepted, and is not counted."""
        connection = http.client.HTTPConnection(self._server.url.removeprefix("http://"), timeout=20)
        try:
            path = f"/2015-03-31/functions/{function}/invocations"
            connection.request("POST", path, body, {"X-Amz-Invocation-Type": "Event"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return 0
        finally:
            connection.close()


class _Pair:
    """One connection through the wire: its two ends, closed by whichever direction ends last."""

    def __init__(self, here: socket.socket, there: socket.socket) -> None:
        self.ends = (here, there)
        self._left = 2
        self._lock = threading.Lock()

    def pump(self, source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):  # cut, on either side
            while data := source.recv(65536):
                target.sendall(data)
        self.cut()
        with self._lock:
            self._left -= 1
            if not self._left:
                for end in self.ends:
                    end.close()

    def cut(self) -> None:
        for end in self.ends:
            with suppress(OSError):  # it has ended by itself
                end.shutdown(socket.SHUT_RDWR)


class CutWire:
    """A way to a Redis server that can be cut: every connection through it ends at once."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: list[_Pair] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return  # closed
            try:
                there = socket.create_connection(("127.0.0.1", self._to), 5)
            except OSError:
                here.close()
                continue
            there.settimeout(None)
            pair = _Pair(here, there)
            self._pairs.append(pair)
            for way in ((here, there), (there, here)):
                thread = threading.Thread(target=pair.pump, args=way)
                self._threads.append(thread)
                thread.start()

    def cut(self) -> None:
        pairs, self._pairs = self._pairs, []
        for pair in pairs:
            pair.cut()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
        self._threads[0].join()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join()


def _kill(pids: list[int]) -> bool:
    killed = False
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
            killed = True
        except ProcessLookupError:
            continue
    return killed


Fault = Callable[[random.Random], bool]


def process_faults(server: Server) -> dict[str, Fault]:
    """What can be done to a server that brings its own Redis, by name; False: there was nothing to do it to."""

    def pids(*marks: str) -> list[int]:
        found = processes(server.data_dir)
        return [pid for pid, command in found.items() if any(mark in command for mark in marks)]

    def server_alone(_: random.Random) -> bool:
        server.kill()
        server.start()
        return True

    def everything(_: random.Random) -> bool:
        _kill([pid for pid in processes(server.data_dir) if pid != server.pid])
        server.kill()
        server.start()
        return True

    def one_environment(chance: random.Random) -> bool:
        found = sorted(environments(server.data_dir))
        return _kill([chance.choice(found)]) if found else False

    return {
        "server": server_alone,
        "server and all its children": everything,
        "Redis": lambda _: _kill(pids("valkey-server", "redis-server")),
        "spawner": lambda _: _kill(pids("sandbox.spawner")),
        "environment": one_environment,
    }


def _full_disk(disk: Path) -> Fault:
    def full(chance: random.Random) -> bool:
        ballast = fill(disk)
        try:
            time.sleep(chance.uniform(0.5, 2.0))
        finally:
            ballast.unlink()
        return True

    return full


@dataclass(frozen=True)
class Place:
    """A server under load, and what can happen to it."""

    server: Server
    faults: dict[str, Fault]


SETTINGS = {"LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.5", "LAMBENT_QUEUE_KEEP_DEAD": "1000000"}
Environment = dict[str, str]
FAILS = "def handler(event, context):\n    raise ValueError('as it always does')\n"


class DeadLetters:
    """The queue of the function that always fails, on an SQS server that hangs now and then."""

    def __init__(self, folder: Path) -> None:
        self._aws = MotoServer(folder / "moto.log").start()
        self.arn = self._aws.queue("dead")
        self.seen: Counter[str] = Counter()
        self.url = self._aws.url

    def hang(self, chance: random.Random) -> bool:
        self._aws.pause()
        time.sleep(chance.uniform(0.2, 2.0))
        self._aws.resume()
        return True

    def read(self) -> None:
        """Counts what has come."""
        for message in self._aws.received(self.arn):
            self.seen[json.loads(message["Body"])["id"]] += 1

    def close(self) -> None:
        self._aws.kill()


@contextmanager
def own_servers(folder: Path, environment: Environment) -> Iterator[Place]:
    """A server with a Redis of its own; both are killed."""
    server = Server(folder / "data", "--no-s3", environment=environment).start()
    try:
        yield Place(server, process_faults(server))
    finally:
        server.stop()


@contextmanager
def cut_connections(folder: Path, environment: Environment) -> Iterator[Place]:
    """A server with somebody's Redis, behind a wire that is cut; that Redis is killed too."""
    binary = redis_binary()
    assert binary is not None
    redis = RedisServer(binary)
    redis.start()
    wire = CutWire(redis.port)
    through = {**environment, "LAMBENT_REDIS_URL": f"redis://127.0.0.1:{wire.port}/0"}
    server = Server(folder / "data", "--no-s3", environment=through).start()

    def cut(_: random.Random) -> bool:
        wire.cut()
        return True

    def restart(_: random.Random) -> bool:
        redis.restart()
        return True

    def hang(chance: random.Random) -> bool:
        redis.pause()
        time.sleep(chance.uniform(0.2, 4.0))
        redis.resume()
        return True

    kills = process_faults(server)
    faults = {"connections": cut, "Redis": restart, "Redis hangs": hang, "server": kills["server"]}
    try:
        yield Place(server, faults)
    finally:
        server.stop()
        wire.close()
        redis.close()


@contextmanager
def full_disk(folder: Path, environment: Environment) -> Iterator[Place]:
    """A server whose disk is full now and then, and that is killed as well."""
    with small_disk(folder) as disk:
        server = Server(disk / "data", "--no-s3", environment=environment).start()
        kills = process_faults(server)
        try:
            yield Place(
                server, {"full disk": _full_disk(disk), "Redis": kills["Redis"], "server": kills["server"]}
            )
        finally:
            server.stop()


PLACES = {"own servers": own_servers, "cut connections": cut_connections, "full disk": full_disk}


def run(
    place: str, seconds: float, *, seed: int | None = None, say: Callable[[str], None] = lambda text: None
) -> Result:
    """One run of so many seconds of faults. The seed repeats the choice of faults, not the moments."""
    seed = random.SystemRandom().randrange(1 << 30) if seed is None else seed
    chance, result = random.Random(seed), Result(seed)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lambent-chaos-")))
        collector = stack.enter_context(Collector())
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        stack.callback(collector.shutdown)
        letters = DeadLetters(folder)
        stack.callback(letters.close)
        environment = {**SETTINGS, **collector.environment, "AWS_ENDPOINT_URL_SQS": letters.url}
        here = stack.enter_context(PLACES[place](folder, environment))
        here.faults["SQS hangs"] = letters.hang
        functions = Functions(here.server)
        name = reporting(functions, collector)
        failing = functions.create(FAILS, DeadLetterConfig={"TargetArn": letters.arn})
        functions.aws.put_function_event_invoke_config(FunctionName=failing, MaximumRetryAttempts=0)
        publishers = Publishers(here.server, name, failing)
        publishers.start()
        try:
            _do_harm(here, result, chance, seconds, lambda: say(_progress(publishers, collector, result)))
        finally:
            publishers.stop()
        say("No more faults; waiting until everything that was accepted has run.")
        result.accepted = len(publishers.accepted) + len(publishers.doomed)
        result.refused = publishers.refused
        _settle(here.server, name, publishers.accepted, collector, result)
        _settle_letters(publishers.doomed, letters, result)
    return result


def _do_harm(
    here: Place, result: Result, chance: random.Random, seconds: float, progress: Callable[[], None]
) -> None:
    until, names = time.monotonic() + seconds, sorted(here.faults)
    while time.monotonic() < until:
        time.sleep(chance.uniform(0.2, 1.5))
        what = chance.choice(names)
        if here.faults[what](chance):
            result.faults[what] += 1
        progress()


def _progress(publishers: Publishers, collector: Collector, result: Result) -> str:
    ran = len(publishers.accepted & collector.seen.keys())
    return f"{sum(result.faults.values())} faults, {len(publishers.accepted)} accepted, {ran} of them have run"


def _settle(server: Server, name: str, accepted: set[str], collector: Collector, result: Result) -> None:
    """Waits until every accepted event has run. Those that were given up (their environments died three times)
    are redriven once: so they are there."""
    until, redriven = time.monotonic() + _SETTLE_SECONDS, False
    while accepted - collector.seen.keys() and time.monotonic() < until:
        row = _depth(server, name)
        if row["dead"] and not redriven and not row["ready"] + row["in_flight"] + row["delayed"]:
            result.given_up, redriven = row["dead"], True
            body = json.dumps({"function": name})
            status, _, answer = request(server, "POST", "/_lambent/queue/redrive", body)
            assert status == 200, answer
        time.sleep(0.2)
    result.lost = sorted(accepted - collector.seen.keys())
    result.runs = sum(collector.seen.values())
    result.more_than_once = sum(count > 1 for count in collector.seen.values())


def _settle_letters(doomed: set[str], letters: DeadLetters, result: Result) -> None:
    """Waits until every accepted event of the function that fails is in its dead-letter queue."""
    until = time.monotonic() + _SETTLE_SECONDS
    letters.read()
    while doomed - letters.seen.keys() and time.monotonic() < until:
        time.sleep(0.2)
        letters.read()
    result.lost += sorted(doomed - letters.seen.keys())
    result.dead_letters = sum(letters.seen.values())
    result.more_than_once += sum(count > 1 for count in letters.seen.values())


def _depth(server: Server, name: str) -> dict[str, int]:
    """The function's numbers; it waits out the end of the last fault."""
    until = time.monotonic() + 30
    while True:
        status, _, body = request(server, "GET", "/_lambent/queue")
        if status == 200:
            break
        assert time.monotonic() < until, f"the queue does not come back: {body!r}"
        time.sleep(0.1)
    nothing = dict.fromkeys(("ready", "in_flight", "delayed", "dead"), 0)
    return next((row for row in json.loads(body)["functions"] if row["function"] == name), nothing)


def main() -> int:
    """Exit code 1 if an event was lost."""
    parser = argparse.ArgumentParser(
        prog="chaos", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of faults in each place  [default: 60]")
    parser.add_argument("--seed", type=int, help="of the choice of faults")
    parser.add_argument("--place", choices=sorted(PLACES), action="append", help="again for more; default: all")
    given = parser.parse_args()
    lost = 0
    for place in given.place or sorted(PLACES):
        if place == "full disk" and os.geteuid() != 0:
            print("full disk: left out, since root alone may mount a small filesystem")
            continue
        print(f"{place}: load average {os.getloadavg()[0]:.2f}", flush=True)
        last = [0.0]

        def say(text: str, last: list[float] = last) -> None:
            if time.monotonic() - last[0] > 5:
                last[0] = time.monotonic()
                print(f"  {text}", flush=True)

        result = run(place, given.seconds, seed=given.seed, say=say)
        print(f"  {result}", flush=True)
        for event in result.lost[:20]:
            print(f"  LOST {event}", flush=True)
        lost += len(result.lost)
    return 1 if lost else 0


if __name__ == "__main__":
    raise SystemExit(main())
