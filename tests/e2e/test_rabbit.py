"""A server whose events lie in RabbitMQ: the same behaviour, and nothing that was accepted is lost when
either is killed."""

import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from collector import Collector, reporting, send
from commands import Command
from rabbit import RabbitServer
from running import Functions, Server, request
from traces import until

Start = Callable[..., Server]
CODE = """
    import os
    def handler(event, context):
        print("RAN", context.aws_request_id, flush=True)
        if os.environ.get("BROKEN"):
            raise ValueError("broken")
    """


@dataclass(frozen=True)
class World:
    server: Server
    functions: Functions
    lambent: Command

    def send(self, name: str) -> str:
        answer = self.functions.aws.invoke(FunctionName=name, InvocationType="Event", Payload=b'{"n": 1}')
        return str(answer["ResponseMetadata"]["RequestId"])

    def row(self, name: str) -> list[str]:
        """The function's row of `lambent queue`, without its name; nothing if there is none."""
        lines = [line.split() for line in self.lambent("queue").out.splitlines()]
        return next((line[1:] for line in lines if line and line[0] == name), [])

    def ran(self, name: str, request_id: str) -> int:
        return sum(line.startswith(f"RAN {request_id}") for line in self.functions.logged(name))


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, rabbit_server: RabbitServer) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("rabbit")
    environment = {"LAMBENT_BROKER_URL": rabbit_server.url, "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.2"}
    server = Server(folder / "data", "--no-s3", environment=environment).start()
    yield World(server, Functions(server), Command(Path(folder), LAMBENT_ENDPOINT=server.url))
    assert server.stop() == 0
    assert "guest:guest" not in server.output()


def test_the_server_says_where_its_events_lie(world: World) -> None:
    kept = json.loads(request(world.server, "GET", "/healthz")[2])["durability"]
    assert kept["durable"] is True
    assert re.match(r"on disk before the answer \(RabbitMQ [\d.]+, quorum queues", kept["how"])


def test_an_event_runs_and_is_gone(world: World) -> None:
    name = world.functions.create(CODE)
    sent = world.send(name)
    until(lambda: world.ran(name, sent) == 1, 20, "it ran")
    until(lambda: world.row(name) == [], 10, "nothing is left")


def test_a_failing_event_is_tried_three_times_kept_and_brought_back(world: World) -> None:
    name = world.functions.create(CODE, Environment={"Variables": {"BROKEN": "yes"}})
    first, second = world.send(name), world.send(name)
    until(lambda: world.row(name)[-1:] == ["2"], 30, "both are given up")
    until(lambda: [world.ran(name, each) for each in (first, second)] == [3, 3], 10, "each ran three times")
    shown = world.lambent("queue", "peek", name, "--line", "dead").out
    assert {line.split()[0] for line in shown.splitlines()[1:]} == {first, second}
    world.functions.aws.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
    world.functions.active(name)
    assert world.lambent("queue", "replay", second).out.startswith(f"{second} is on its way again.")
    until(lambda: world.ran(name, second) == 4, 20, "it ran once more")
    assert world.lambent("queue", "redrive", name).out == f"1 event of {name} is on the way again.\n"
    until(lambda: world.ran(name, first) == 4, 20, "so did the other")
    until(lambda: world.row(name) == [], 10, "nothing is left")


def test_what_waits_for_its_retry_is_shown_and_replayed(own_server: Start, rabbit_server: RabbitServer) -> None:
    server = own_server("--no-s3", environment={"LAMBENT_BROKER_URL": rabbit_server.url})  # 60 s
    world = World(server, Functions(server), Command(server.data_dir.parent, LAMBENT_ENDPOINT=server.url))
    name = world.functions.create(CODE, Environment={"Variables": {"BROKEN": "yes"}})
    sent = world.send(name)
    until(lambda: world.ran(name, sent) == 1, 20, "it ran and failed")
    until(lambda: world.row(name)[2:3] == ["1"], 20, "it waits")
    assert world.lambent("queue", "peek", name).out.splitlines()[1].startswith(sent)
    assert world.lambent("queue", "replay", sent).out.startswith(f"{sent} is on its way again.")
    until(lambda: world.ran(name, sent) == 2, 20, "it ran before its time")
    until(lambda: world.row(name)[2:3] == ["1"], 20, "it waits again")
    assert world.lambent("queue", "purge", name, "--line", "lane", "--yes").out.startswith("Dropped 1 ")
    assert world.row(name) == []


class TestKilled:
    """The collector hears of every run; the server or the broker is killed with -9 meanwhile."""

    @pytest.mark.timeout(240)
    @pytest.mark.parametrize("victim", ["lambent", "rabbit"])
    def test_every_accepted_event_runs(
        self, own_server: Start, own_rabbit: RabbitServer, collector: Collector, victim: str
    ) -> None:
        environment = {**collector.environment, "LAMBENT_BROKER_URL": own_rabbit.url}
        server = own_server("--no-s3", environment=environment)
        functions = Functions(server)
        name = reporting(functions, collector)
        accepted: set[str] = set()
        stop = threading.Event()

        def publish() -> None:
            caller = Functions(server)
            with closing(caller.aws):
                while not stop.is_set():
                    event = uuid.uuid4().hex
                    try:
                        send(caller, name, {"id": event})
                        accepted.add(event)
                    except (ClientError, BotoCoreError):
                        stop.wait(0.05)

        threads = [threading.Thread(target=publish) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(2):
                count = len(accepted)
                until(lambda count=count: len(accepted) > count + 50, 60, "events are accepted")  # type: ignore[misc]
                if victim == "rabbit":
                    own_rabbit.restart()
                else:
                    server.kill()
                    server.start()
            count = len(accepted)
            until(lambda: len(accepted) > count + 50, 60, "events are accepted again")
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        until(lambda: accepted <= set(collector.seen), 60, "every accepted event ran")
