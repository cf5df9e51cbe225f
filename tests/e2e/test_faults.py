"""Crashes of the server, alone and with all its children: nothing durable is lost, and the next start reaps
everything. `LAMBENT_TEST_ROUNDS` makes the rounds under load longer."""

import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from collector import Collector, reporting, send
from running import ROLE, RUNTIME, Functions, Server, zipped
from traces import environments, left_behind, need_groups, processes, until

Start = Callable[..., Server]
ROUNDS = int(os.environ.get("LAMBENT_TEST_ROUNDS", "2"))
HELLO = "def handler(event, context):\n    return 'hello'\n"


def kill_all(server: Server) -> None:
    """kill -9 of the server and everything it started, as the OOM killer or a container's end would."""
    victims = list(processes(server.data_dir))
    os.kill(server.pid, signal.SIGSTOP)  # or it would see its children die
    for pid in victims:
        if pid != server.pid:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass  # it went with its parent
    server.kill()


class TestKillNine:
    def test_environments_go_with_a_server_that_is_killed_alone(self, own_server: Start) -> None:
        need_groups()
        server = own_server("--no-s3", environment={"LAMBENT_DRAIN_SECONDS": "1"})
        functions = Functions(server)
        name = functions.create(HELLO)
        functions.invoke(name)
        slow = functions.create("import time\ndef handler(e, c):\n    time.sleep(60)\n")
        send(functions, slow, {})
        until(lambda: len(environments(server.data_dir)) >= 2, 10, "one environment frozen, one busy")
        server.kill()
        until(lambda: not environments(server.data_dir), 2, "the environments are gone")
        server.start()  # reaps the rest

    @pytest.mark.parametrize("kill", [Server.kill, kill_all], ids=["alone", "with all its children"])
    def test_what_was_stored_is_there_after_a_kill_and_the_rest_is_reaped(
        self, own_server: Start, kill: Callable[[Server], None]
    ) -> None:
        server = own_server()
        functions = Functions(server)
        server.client("s3").create_bucket(Bucket="photos")
        layer = functions.aws.publish_layer_version(
            LayerName="words", Content={"ZipFile": zipped({"python/words.py": "WORD = 'from a layer'"})}
        )["LayerVersionArn"]
        code = "import words\ndef handler(event, context):\n    return words.WORD\n"
        name = functions.create(code, Layers=[layer], Tags={"team": "blue"}, Description="kept")
        trigger = post(server, "/_lambent/triggers", {"bucket": "photos", "function": name})
        assert functions.invoke(name).result == "from a layer"
        before = functions.aws.get_function(FunctionName=name)["Configuration"]
        kill(server)

        server.start()
        after = functions.aws.get_function(FunctionName=name)
        before["ResponseMetadata"] = after["Configuration"]["ResponseMetadata"] = None
        assert after["Configuration"] == before
        assert after["Tags"] == {"team": "blue"}
        assert functions.invoke(name).result == "from a layer"
        assert get(server, "/_lambent/triggers")["triggers"] == [trigger]
        assert server.stop() == 0
        assert left_behind(server.data_dir) == []

    def test_an_update_that_a_kill_interrupts_is_completed_by_the_next_start(self, own_server: Start) -> None:
        server = own_server("--no-s3")
        functions = Functions(server)
        name = functions.create(HELLO)
        big = {f"data/{number}": os.urandom(400_000) for number in range(40)}
        changed = zipped({"app.py": HELLO.replace("hello", "changed"), **big})
        answer = functions.aws.update_function_code(FunctionName=name, ZipFile=changed)
        server.kill()
        assert answer["LastUpdateStatus"] == "InProgress"
        server.start()
        functions.active(name)
        assert functions.invoke(name).result == "changed"

    def test_a_creation_that_a_kill_interrupts_is_completed_by_the_next_start(self, own_server: Start) -> None:
        server = own_server("--no-s3")
        functions = Functions(server)
        big = {f"data/{number}": os.urandom(400_000) for number in range(40)}
        created: dict[str, Any] = {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE}
        code = {"ZipFile": zipped({"app.py": HELLO, **big})}
        assert functions.aws.create_function(FunctionName="f", Code=code, **created)["State"] == "Pending"
        server.kill()
        server.start()
        functions.active("f")
        assert functions.invoke("f").result == "hello"


class TestAcceptedEvents:
    def test_every_accepted_event_runs_though_the_server_is_killed_under_load(
        self, own_server: Start, collector: Collector
    ) -> None:
        server = own_server("--no-s3", environment=collector.environment)
        functions = Functions(server)
        names = [reporting(functions, collector) for _ in range(2)]
        accepted: list[str] = []
        for round_ in range(ROUNDS):
            stop = threading.Event()
            threads = [
                threading.Thread(target=publish, args=(server, name, accepted, stop)) for name in names * 2
            ]
            before = len(accepted)
            for thread in threads:
                thread.start()
            try:
                until(partial(longer, accepted, before + 60), 20, "events are accepted")
                (kill_all if round_ % 2 else Server.kill)(server)
            finally:
                stop.set()
                for thread in threads:
                    thread.join()
            server.start()
        assert len(accepted) > 60 * ROUNDS
        until(lambda: not set(accepted) - set(collector.seen), 40, "every accepted event has run")

    def test_an_event_that_ran_when_the_server_was_killed_runs_again(
        self, own_server: Start, collector: Collector
    ) -> None:
        server = own_server("--no-s3", environment=collector.environment)
        functions = Functions(server)
        name = reporting(functions, collector)
        send(functions, name, {"id": "a", "seconds": 3})
        until(lambda: collector.seen["a"] == 1, 10, "it runs")
        server.kill()
        server.start()
        until(lambda: collector.seen["a"] == 2, 20, "it runs again")

    def test_events_that_sigterm_cuts_off_run_again_and_finished_ones_do_not(
        self, own_server: Start, collector: Collector
    ) -> None:
        environment = {**collector.environment, "LAMBENT_DRAIN_SECONDS": "1"}
        server = own_server("--no-s3", environment=environment)
        functions = Functions(server)
        name = reporting(functions, collector)
        for payload in ({"id": "short"}, {"id": "long", "seconds": 8}):
            send(functions, name, payload)
        until(lambda: collector.seen == {"short": 1, "long": 1}, 10, "both have begun")
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 7, "the bound was not kept"
        server.start()
        until(lambda: collector.seen["long"] == 2, 20, "the one that was cut off runs again")
        assert collector.seen["short"] == 1


def longer(items: list[str], than: int) -> bool:
    return len(items) > than


def publish(server: Server, name: str, accepted: list[str], stop: threading.Event) -> None:
    """Publishes events until `stop`; notes those that were answered with 202."""
    with closing(server.client()) as aws:
        while not stop.is_set():
            event = uuid.uuid4().hex
            try:
                answer = aws.invoke(
                    FunctionName=name, InvocationType="Event", Payload=json.dumps({"id": event})
                )
                answer["Payload"].read()
            except (ClientError, BotoCoreError):
                stop.wait(0.02)  # not accepted: its publisher would try again
                continue
            if answer["StatusCode"] == 202:
                accepted.append(event)


def post(server: Server, path: str, body: Any) -> Any:
    from urllib.request import Request, urlopen

    with urlopen(Request(server.url + path, json.dumps(body).encode(), method="POST"), timeout=30) as answer:
        return json.load(answer)


def get(server: Server, path: str) -> Any:
    from urllib.request import urlopen

    with urlopen(server.url + path, timeout=30) as answer:
        return json.load(answer)
