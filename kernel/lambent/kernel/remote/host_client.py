"""`ports.EnvironmentHost` of one executor in another process, over one connection that is made when it is first
needed and made again, with back-off, when it breaks."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from lambent.internal.v1.host_pb2 import EnforcementRequest, Frame
from lambent.kernel.errors import LambdaError, NotStarted
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement, FunctionVersion, Invocation, VersionKey
from lambent.kernel.ports import Clock, Lease
from lambent.kernel.remote import messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.link import Link
from lambent.kernel.remote.run import RemoteRun
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
CONNECT_SECONDS = 3.0
PING_SECONDS = 5.0
_PINGS = 3
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 5.0


class Address(NamedTuple):
    """Where an executor's frames are served."""

    host: str
    port: int


class RemoteHost:
    """`ports.EnvironmentHost`. `executor`: the id that must answer at the address; `name`: who speaks, for the
    executor's log."""

    def __init__(self, executor: str, address: Address, *, access: Access, name: str, clock: Clock) -> None:
        self.executor = executor
        self.address = address
        self._access = access
        self._name = name
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._tasks = Tasks(f"frames to {executor}")
        self._link: Link | None = None
        self._connecting: asyncio.Task[Link | NotStarted] | None = None
        self._waiting: list[tuple[RemoteRun, Invocation, Lease]] = []
        self._watching = self._closed = False
        self._failures = 0
        self._not_before = 0.0
        self._why = ""
        self._enforcement: Sequence[Enforcement] = ()
        self.asked = False
        """Whether the executor has said what it enforces since it was connected."""

    @property
    def idle(self) -> bool:
        """Whether nothing is under way."""
        return not self._waiting and self._connecting is None and (self._link is None or not len(self._link))

    # ---- EnvironmentHost ------------------------------------------------------------------------------

    def invoke(self, invocation: Invocation, lease: Lease) -> RemoteRun:
        run = RemoteRun(self._loop, streaming=invocation.streaming)
        if self._link is not None:
            self._link.invoke(run, invocation, lease)
            return run
        try:
            self._connect()
        except NotStarted as failure:
            run.fail(failure)
        else:
            self._waiting.append((run, invocation, lease))
        return run

    async def prepare(self, target: FunctionVersion) -> None:
        await (await self._connected()).prepare(target)

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        await (await self._connected()).ask(messages.stop_frame(0, uid, version, keep))

    def enforcement(self) -> Sequence[Enforcement]:
        """As the executor said when it was asked last; empty before that."""
        return self._enforcement

    async def ask_enforcement(self) -> Sequence[Enforcement]:
        """Asks it, and keeps the answer. Raises LambdaError."""
        link = await self._connected()
        self._enforcement = await link.ask(Frame(enforcement_request=EnforcementRequest()))
        self.asked = True
        return self._enforcement

    # ---- the connection -------------------------------------------------------------------------------

    async def _connected(self) -> Link:
        if self._link is not None:
            return self._link
        task = self._connect()
        await asyncio.wait([task])  # not the task itself: who waits for it must not cancel it for the others
        link = self._unreachable() if task.cancelled() else task.result()
        if isinstance(link, NotStarted):
            raise link
        return link

    def _connect(self) -> asyncio.Task[Link | NotStarted]:
        """The one attempt under way. Raises NotStarted if the last one failed a moment ago."""
        if self._closed:
            raise NotStarted("unreachable", f"The connection to the executor {self.executor} is closed.")
        if self._connecting is None:
            if self._clock.monotonic() < self._not_before:
                raise self._unreachable()
            self._connecting = self._tasks.once("connect", self._open())
            self._connecting.add_done_callback(self._opened)
        return self._connecting

    async def _open(self) -> Link | NotStarted:
        try:
            self._access.check(self.address.host, "A connection to")
            async with asyncio.timeout(CONNECT_SECONDS):
                return await self._shake()
        except (OSError, ValueError, LambdaError) as failure:  # a TimeoutError is an OSError
            self._why = str(failure) or "no answer in time"
            return self._unreachable()

    async def _shake(self) -> Link:
        link = Link(self.executor, self._access, name=self._name, gone=self._gone)
        host, port = self.address
        tls = self._access.tls
        name = (self._access.server_name or host) if tls is not None else None
        await self._loop.create_connection(lambda: link.wire, host, port, ssl=tls, server_hostname=name)
        try:
            await link.ready
        except BaseException:
            link.wire.abort()
            raise
        return link

    def _opened(self, task: asyncio.Task[Link | NotStarted]) -> None:
        self._connecting = None
        waiting, self._waiting = self._waiting, []
        link = self._unreachable() if task.cancelled() or task.exception() else task.result()
        if isinstance(link, Link) and link.ended.done():
            link = self._unreachable()
        if isinstance(link, NotStarted):
            self._back_off()
            for run, _, _ in waiting:
                run.fail(link)
            return
        self._link, self._failures = link, 0
        if not self._watching:
            self._watching = True
            self._tasks.forever("ping", self._ping())
        for run, invocation, lease in waiting:
            if not run.over:  # else it was cancelled
                link.invoke(run, invocation, lease)

    def _back_off(self) -> None:
        pause = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** min(self._failures, 10))
        if self._failures == 0 and not self._closed:
            _log.warning("An executor is unreachable.", executor=self.executor, why=self._why)
        self._failures += 1
        self._not_before = self._clock.monotonic() + pause

    def _unreachable(self) -> NotStarted:
        return NotStarted("unreachable", f"The executor {self.executor} is unreachable: {self._why}.")

    def _gone(self, link: Link, why: Exception | None) -> None:
        if self._link is link:
            self._link, self.asked = None, False
            self._why = str(why or "it closed the connection")
            if not self._closed and not link.draining:
                _log.warning("A connection to an executor broke.", executor=self.executor, why=self._why)

    async def _ping(self) -> None:
        while True:
            await self._clock.sleep(PING_SECONDS)
            if self._link is not None:
                self._link.check(most_pings=_PINGS)

    async def close(self) -> None:
        """Ends the connection at once; what is under way on it fails as when it breaks."""
        self._closed = True
        link = self._link
        if self._connecting is not None:
            self._connecting.cancel()
        if link is not None:
            link.wire.abort(ConnectionError("closed here"))
            await link.ended
        await self._tasks.drain(1.0)
