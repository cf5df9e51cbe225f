"""`lambent queue` on a running server: what was given up is seen, brought back, run again or dropped."""

import re
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from commands import Command
from moto_aws import MotoServer
from running import Functions, Server
from traces import until

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
    aws: MotoServer

    def broken(self, **members: Any) -> str:
        """A function that fails."""
        return self.functions.create(CODE, Environment={"Variables": {"BROKEN": "yes"}}, **members)

    def mend(self, name: str) -> None:
        self.functions.aws.update_function_configuration(FunctionName=name, Environment={"Variables": {}})
        self.functions.active(name)

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
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("queue")
    aws = MotoServer(folder / "moto.log").start()
    environment = {"AWS_ENDPOINT_URL_SQS": aws.url, "LAMBENT_ASYNC_RETRY_BASE_SECONDS": "0.1"}
    server = Server(folder / "data", "--no-s3", environment=environment).start()
    yield World(server, Functions(server), Command(Path(folder), LAMBENT_ENDPOINT=server.url), aws)
    assert server.stop() == 0
    aws.kill()


def given_up(world: World, name: str, count: int) -> None:
    until(lambda: world.row(name)[-1:] == [str(count)], 30, f"{count} events of {name} are given up")


def test_an_empty_queue_says_so(world: World) -> None:
    assert world.lambent("queue").out == "Nothing waits.\n"


def test_given_up_events_are_shown_and_run_again(world: World) -> None:
    name = world.broken()
    sent = {world.send(name) for _ in range(3)}
    given_up(world, name, 3)
    assert world.row(name) == ["0", "0", "0", "0", "3"]
    shown = world.lambent("queue", "peek", name, "--line", "dead").out
    assert {line.split()[0] for line in shown.splitlines()[1:]} == sent
    assert shown.count("RetriesExhausted") == 3 and "broken" in shown and '{"n": 1}' in shown
    world.mend(name)
    assert (
        world.lambent("queue", "redrive", name, "--limit", "1").out
        == f"1 event of {name} is on the way again.\n"
    )
    assert world.lambent("queue", "redrive", name).out == f"2 events of {name} are on the way again.\n"
    until(lambda: [world.ran(name, request_id) for request_id in sent] == [4, 4, 4], 20, "each ran once more")
    until(lambda: world.row(name) == [], 10, "nothing is left")


def test_one_request_is_replayed_by_its_id(world: World) -> None:
    name = world.broken()
    first, second = world.send(name), world.send(name)
    given_up(world, name, 2)
    world.mend(name)
    assert world.lambent("queue", "replay", second).out.startswith(f"{second} is on its way again.")
    until(lambda: world.ran(name, second) == 4, 20, "it ran once more")
    assert world.ran(name, first) == 3
    assert "are not kept" in world.lambent("queue", "replay", second, code=1).err


def test_a_line_is_purged_only_when_it_is_meant(world: World) -> None:
    name = world.broken()
    world.send(name)
    given_up(world, name, 1)
    assert "Drop everything" in world.lambent("queue", "purge", name, "--line", "dead", given="n\n", code=1).out
    assert world.row(name)[-1:] == ["1"]
    assert world.lambent("queue", "purge", name, "--line", "dead", "--yes").out.startswith("Dropped 1 ")
    assert world.row(name) == []


def test_what_a_dead_letter_queue_has_taken_is_taken_back(world: World) -> None:
    dead = world.aws.queue(f"q-{uuid.uuid4().hex[:8]}")
    name = world.broken(DeadLetterConfig={"TargetArn": dead})
    sent = {world.send(name) for _ in range(2)}
    sqs = world.aws.client("sqs")
    url = sqs.get_queue_url(QueueName=dead.rpartition(":")[2])["QueueUrl"]

    def held() -> int:
        answer = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["ApproximateNumberOfMessages"])
        return int(answer["Attributes"]["ApproximateNumberOfMessages"])

    until(lambda: held() == 2, 30, "both are in the queue")
    world.mend(name)
    assert world.lambent("queue", "redrive", name, "--dlq").out == f"2 events of {name} are on the way again.\n"
    until(lambda: [world.ran(name, request_id) for request_id in sent] == [4, 4], 20, "each ran once more")
    assert held() == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("peek", "gone"), "Function not found"),
        (("peek", "gone", "--line", "nonsense"), "--line is one of lane, outcomes, dead"),
        (("redrive", "gone"), "Function not found"),
        (("purge", "gone", "--line", "lane", "--yes"), "Function not found"),
        (("replay", "none"), "not kept"),
    ],
)
def test_failures_are_one_line(world: World, arguments: tuple[str, ...], said: str) -> None:
    error = world.lambent("queue", *arguments, code=1).err
    assert said in error and len(error.splitlines()) == 1


def test_a_function_without_a_queue_has_nothing_to_take_back(world: World) -> None:
    name = world.broken()
    assert re.search("no SQS queue", world.lambent("queue", "redrive", name, "--dlq", code=1).err)
