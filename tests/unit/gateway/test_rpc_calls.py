"""calls.py: what every RPC has in common."""

import asyncio
from typing import Any, cast

import grpc
import pytest
from google.rpc.status_pb2 import Status

from lambent.gateway.rpc.calls import Calls, Rpc
from lambent.gateway.rpc.status import DETAILS
from lambent.kernel.errors import AccessDeniedException, ResourceNotFoundException
from lambent.kernel.tasks import Tasks


class FakeContext:
    def __init__(self) -> None:
        self.code: grpc.StatusCode | None = None
        self.details = ""
        self.trailing: dict[str, Any] = {}

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...]:
        return (("user-agent", "a test"), ("key-bin", b"\x00"))

    def set_trailing_metadata(self, metadata: tuple[tuple[str, Any], ...]) -> None:
        self.trailing = dict(metadata)

    async def abort(self, code: grpc.StatusCode, details: str, metadata: tuple[tuple[str, Any], ...]) -> None:
        self.code, self.details, self.trailing = code, details, dict(metadata)
        raise grpc.aio.AbortError


class World:
    def __init__(self) -> None:
        self.tasks = Tasks("test")
        self.context = FakeContext()
        self.asked: list[Any] = []

    def begin(self) -> Rpc:
        return Calls(self.tasks, self.asked.append).begin(cast(Any, self.context))


async def test_an_answer_has_the_request_id_and_the_hook_sees_the_metadata() -> None:
    world = World()
    rpc = world.begin()

    async def work() -> int:
        return 5

    assert await rpc.run("GetFunction", work) == 5
    assert world.context.trailing == {"x-amzn-requestid": rpc.request_id}
    assert world.asked == [[(b"user-agent", b"a test"), (b"key-bin", b"\x00")]]
    assert rpc.header("user-agent") == "a test"
    assert rpc.header("nothing") is None


async def test_a_client_that_goes_away_stops_nothing_and_is_told_of() -> None:
    world = World()
    rpc, began, go, ended = world.begin(), asyncio.Event(), asyncio.Event(), asyncio.Event()
    gone: list[bool] = []

    async def work() -> int:
        began.set()
        await go.wait()
        ended.set()
        return 1

    handling = world.tasks.once("handler", rpc.run("Invoke", work, gone=lambda: gone.append(True)))
    await began.wait()
    handling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await handling
    assert gone == [True]
    go.set()
    await asyncio.wait_for(ended.wait(), 5)


async def test_an_error_ends_the_rpc_with_aws_name() -> None:
    world = World()
    rpc = world.begin()

    async def work() -> int:
        raise ResourceNotFoundException("no such thing")

    with pytest.raises(grpc.aio.AbortError):
        await rpc.run("GetFunction", work)
    assert (world.context.code, world.context.details) == (grpc.StatusCode.NOT_FOUND, "no such thing")
    assert Status.FromString(world.context.trailing[DETAILS]).message == "no such thing"
    assert world.context.trailing["x-amzn-requestid"] == rpc.request_id


async def test_the_platforms_own_fault_tells_a_request_id_and_nothing_else() -> None:
    world = World()
    rpc = world.begin()

    async def work() -> int:
        raise RuntimeError("a secret")

    with pytest.raises(grpc.aio.AbortError):
        await rpc.run("GetFunction", work)
    assert world.context.code is grpc.StatusCode.INTERNAL
    assert rpc.request_id in world.context.details
    assert "secret" not in world.context.details


async def test_who_may_not_ask_gets_nothing_done() -> None:
    world, done = World(), False

    def refuse(headers: object) -> None:
        raise AccessDeniedException()

    async def work() -> int:
        nonlocal done
        done = True
        return 1

    rpc = Calls(world.tasks, refuse).begin(cast(Any, world.context))
    with pytest.raises(grpc.aio.AbortError):
        await rpc.run("GetFunction", work)
    assert (world.context.code, done) == (grpc.StatusCode.PERMISSION_DENIED, False)
