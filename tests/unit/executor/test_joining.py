"""joining.py: an executor joins schedulers, beats, answers claims at once, and ends what nobody answers for."""

import asyncio
from collections.abc import AsyncIterator, Mapping

from lambent.executor.joining import Joining, Stream
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import ServiceException
from lambent.kernel.leases import (
    SILENT_SECONDS,
    Answer,
    Beat,
    Bye,
    Claim,
    Done,
    FromExecutor,
    Open,
    ToExecutor,
)
from lambent.kernel.models import VersionKey
from lambent.kernel.tasks import Tasks

KEY = VersionKey("uid", "$LATEST", 1)


class Pipe(Stream):
    def __init__(self) -> None:
        self.sent: list[FromExecutor] = []
        self.closed = False
        self._coming: asyncio.Queue[ToExecutor | None] = asyncio.Queue()

    def send(self, message: FromExecutor) -> None:
        self.sent.append(message)

    def come(self, message: ToExecutor | None) -> None:
        self._coming.put_nowait(message)

    async def __aiter__(self) -> AsyncIterator[ToExecutor]:
        while (message := await self._coming.get()) is not None:
            yield message

    async def close(self) -> None:
        self.closed = True

    @property
    def beats(self) -> list[Beat]:
        return [each for each in self.sent if isinstance(each, Beat)]


class World:
    def __init__(self) -> None:
        self.clock = TestClock()
        self.pipes: list[Pipe] = []
        self.found: Mapping[str, str] = {"s": "at"}
        self.ended: list[str] = []
        self.refuse = False
        self.joining = Joining(
            connect=self._connect,
            schedulers=self._schedulers,
            facts=lambda: Beat("x", 0, 0, {}, (), 1024, 0, {}),
            end=self.ended.append,
            clock=self.clock,
            tasks=Tasks("test"),
        )
        self.work = [
            asyncio.ensure_future(self.joining.run()),
            asyncio.ensure_future(self.joining.run_meeting()),
        ]

    async def _connect(self, scheduler: str, address: str) -> Stream:
        if self.refuse:
            raise ServiceException("Nobody is there.")
        self.pipes.append(Pipe())
        return self.pipes[-1]

    async def _schedulers(self) -> Mapping[str, str]:
        return self.found

    async def close(self) -> None:
        for task in self.work:
            task.cancel()
        await self.joining.close()


async def test_it_beats_at_once_each_second_and_for_a_claim() -> None:
    world = World()
    await world.clock.advance(0.5)
    (pipe,) = world.pipes
    assert len(pipe.beats) == 1
    await world.clock.advance(1.0)
    assert len(pipe.beats) == 2
    pipe.come(Claim(1, 3, 7))
    await world.clock.settle()
    assert (pipe.beats[-1].epochs, pipe.beats[-1].seen) == ({3: 7}, 1)
    await world.close()


async def test_a_request_is_answered_and_its_run_ended_when_the_owner_is_silent() -> None:
    world = World()
    await world.clock.advance(0.5)
    (pipe,) = world.pipes
    pipe.come(Claim(1, 3, 7))
    await world.clock.settle()
    pipe.come(Answer(pipe.beats[-1].number, {3: 7}, {}))
    pipe.come(Open(2, 3, 7, "l", KEY, "on-demand", "h", 128, 1, 60.0))
    await world.clock.settle()
    assert isinstance(pipe.sent[-1], Done) and pipe.sent[-1].request == 2
    world.joining.gate.begin("l", KEY, world.clock.monotonic())
    await world.clock.advance(SILENT_SECONDS - 0.6)
    assert world.ended == []
    await world.clock.advance(1.1)
    assert world.ended == ["l"]
    await world.close()


async def test_a_broken_stream_is_made_anew_and_begins_with_nothing_seen() -> None:
    world = World()
    await world.clock.advance(0.5)
    world.pipes[0].come(Claim(1, 3, 7))
    await world.clock.settle()
    world.pipes[0].come(None)
    await world.clock.settle()
    await world.clock.advance(0.2)
    assert world.pipes[0].closed and len(world.pipes) == 2
    assert world.pipes[1].beats[0].seen == 0
    await world.close()


async def test_a_stream_that_stands_is_kept_though_the_list_lacks_its_scheduler() -> None:
    world = World()
    await world.clock.advance(0.5)
    world.found = {}
    await world.clock.advance(2.0)
    assert not world.pipes[0].closed
    world.refuse = True
    world.pipes[0].come(None)
    await world.clock.settle()
    await world.clock.advance(3.0)
    world.refuse, tried = False, len(world.pipes)
    await world.clock.advance(3.0)
    assert len(world.pipes) == tried, "nobody is there, and nobody is listed"
    await world.close()


async def test_it_says_good_bye_to_all() -> None:
    world = World()
    await world.clock.advance(0.5)
    world.joining.say_bye("x")
    assert world.pipes[0].sent[-1] == Bye("x")
    await world.close()
