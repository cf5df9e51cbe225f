"""The executor's environments behind its gate: every invocation takes a slot of a lease first, and gives it
back at its report. What comes from other processes comes through here."""

import asyncio
import functools
from collections.abc import Sequence

from lambent.executor.gate import Gate
from lambent.kernel.errors import NotStarted
from lambent.kernel.models import Enforcement, FunctionVersion, Invocation, Report, Response, VersionKey
from lambent.kernel.ports import Clock, EnvironmentHost, Lease, Run
from lambent.kernel.response_stream import ResponseStream


class _Refused:
    """A `ports.Run` of an invocation that was not taken."""

    def __init__(self, refusal: NotStarted, invocation: Invocation) -> None:
        loop = asyncio.get_running_loop()
        self.response: asyncio.Future[Response] = loop.create_future()
        self.report: asyncio.Future[Report] = loop.create_future()
        self.stream = ResponseStream(loop) if invocation.streaming else None
        if self.stream is not None:
            self.stream.end()
        for end in (self.response, self.report):
            end.set_exception(refusal)
            end.exception()

    def cancel(self) -> None:
        """Nothing runs."""


class GatedHost:
    """`ports.EnvironmentHost` of `host`, for invocations under the leases of `gate`."""

    def __init__(self, host: EnvironmentHost, gate: Gate, clock: Clock) -> None:
        self._host = host
        self._gate = gate
        self._clock = clock
        self._runs: dict[str, set[Run]] = {}
        self._quiet = asyncio.Event()

    def invoke(self, invocation: Invocation, lease: Lease) -> Run:
        try:
            self._gate.begin(lease.id, invocation.target.key, self._clock.monotonic())
        except NotStarted as refusal:
            return _Refused(refusal, invocation)
        run = self._host.invoke(invocation, lease)
        runs = self._runs.get(lease.id)
        if runs is None:
            runs = self._runs[lease.id] = set()
        runs.add(run)
        run.report.add_done_callback(functools.partial(self._over, lease.id, run))
        return run

    def _over(self, lease: str, run: Run, _: object) -> None:
        runs = self._runs[lease]
        runs.discard(run)
        if not runs:
            del self._runs[lease]
        self._gate.end(lease)
        self._quiet.set()

    def end_lease(self, lease: str) -> None:
        """Ends what runs under a lease: nobody else may start until it has."""
        for run in list(self._runs.get(lease, ())):
            run.cancel()

    async def quiet(self) -> None:
        """Waits until nothing runs."""
        while self._runs:
            self._quiet.clear()
            await self._quiet.wait()

    async def prepare(self, target: FunctionVersion) -> None:
        await self._host.prepare(target)

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        await self._host.stop_function(uid, version=version, keep=keep)

    def enforcement(self) -> Sequence[Enforcement]:
        return self._host.enforcement()
