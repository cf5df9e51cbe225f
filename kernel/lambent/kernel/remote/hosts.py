"""`ports.EnvironmentHost` over many executors in other processes, one connection to each that is used. Who may
run where is decided elsewhere: a lease names its executor."""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Sequence

from lambent.kernel.errors import LambdaError, NotStarted
from lambent.kernel.log import Log
from lambent.kernel.models import Enforcement, FunctionVersion, Invocation, VersionKey
from lambent.kernel.ports import Clock, Lease
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_client import Address, RemoteHost
from lambent.kernel.remote.run import RemoteRun
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
SWEEP_SECONDS = 10.0


class Hosts:
    """`find`: where an executor is, None if it is gone; `known`: the ids of all; both are asked often and must
    answer at once. `name`: who speaks, for the executors' logs."""

    def __init__(
        self,
        *,
        find: Callable[[str], Address | None],
        known: Callable[[], Iterable[str]],
        access: Access,
        name: str,
        clock: Clock,
    ) -> None:
        self._find = find
        self._known = known
        self._access = access
        self._name = name
        self._clock = clock
        self._hosts: dict[str, RemoteHost] = {}
        self._moved: list[RemoteHost] = []
        self._tasks = Tasks("executors")

    async def open(self) -> None:
        """Asks all known executors what they enforce, and starts to look after the connections."""
        await self.sweep()
        self._tasks.forever("sweep", self._sweep())

    # ---- EnvironmentHost ------------------------------------------------------------------------------

    def invoke(self, invocation: Invocation, lease: Lease) -> RemoteRun:
        host = self._host(lease.executor)
        if host is not None:
            return host.invoke(invocation, lease)
        run = RemoteRun(asyncio.get_running_loop())
        run.fail(NotStarted("unknown", f"The executor {lease.executor} is not known here: new, or gone."))
        return run

    async def prepare(self, target: FunctionVersion) -> None:
        """By one of the executors, always the same one of a function as long as that is there: so its code is
        fetched once, and where it runs first. Raises NotStarted if none is reachable."""
        error: LambdaError = NotStarted("unreachable", "There is no executor.")
        for executor in sorted(self._known(), key=lambda each: _weight(each, target.uid)):
            host = self._host(executor)
            if host is None:
                continue
            try:
                await host.prepare(target)
                return
            except NotStarted as failure:
                error = failure
        raise error

    async def stop_function(
        self, uid: str, *, version: str | None = None, keep: VersionKey | None = None
    ) -> None:
        """By all of them. One that is unreachable is logged: its environments end with their leases."""

        async def stop(host: RemoteHost) -> None:
            try:
                await host.stop_function(uid, version=version, keep=keep)
            except LambdaError as failure:
                _log.warning(
                    "A function could not be stopped on an executor.",
                    executor=host.executor,
                    uid=uid,
                    why=failure.message,
                )

        await asyncio.gather(*(stop(host) for host in self._all()))

    def enforcement(self) -> Sequence[Enforcement]:
        """As the executors said last: of each thing what the weakest of them does."""
        merged: dict[str, Enforcement] = {}
        for host in self._hosts.values():
            for entry in host.enforcement():
                if entry.name not in merged or not entry.enforced:
                    merged[entry.name] = entry
        return tuple(merged.values())

    # ---- the connections ------------------------------------------------------------------------------

    def _all(self) -> list[RemoteHost]:
        return [host for host in map(self._host, self._known()) if host is not None]

    def _host(self, executor: str) -> RemoteHost | None:
        address = self._find(executor)
        host = self._hosts.get(executor)
        if address is None:
            return None
        if host is None or host.address != address:
            if host is not None:
                self._moved.append(host)
            host = self._hosts[executor] = RemoteHost(
                executor, address, access=self._access, name=self._name, clock=self._clock
            )
        return host

    async def _sweep(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            await self.sweep()

    async def sweep(self) -> None:
        """Closes idle connections to executors that are gone or have moved, and asks those that have not said
        what they enforce: a new connection may be to a new process."""
        for executor in [each for each in self._hosts if self._find(each) is None]:
            self._moved.append(self._hosts.pop(executor))
        self._moved, idle = (
            [host for host in self._moved if not host.idle],
            [host for host in self._moved if host.idle],
        )
        for host in idle:
            await host.close()
        await asyncio.gather(*(_ask(host) for host in self._all() if not host.asked))

    async def close(self) -> None:
        """Ends all connections at once."""
        await self._tasks.drain(1.0)
        for host in [*self._hosts.values(), *self._moved]:
            await host.close()
        self._hosts.clear()
        self._moved.clear()


async def _ask(host: RemoteHost) -> None:
    try:
        await host.ask_enforcement()
    except LambdaError as failure:
        _log.debug("An executor did not say what it enforces.", executor=host.executor, why=failure.message)


def _weight(executor: str, uid: str) -> bytes:
    """Rendezvous hashing: an executor that comes or goes moves only its own functions."""
    return hashlib.sha256(f"{executor}\0{uid}".encode()).digest()
