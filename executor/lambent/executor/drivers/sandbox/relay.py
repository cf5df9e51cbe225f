"""Relays from an environment's network to the few TCP endpoints outside that the operator has named, because
those may be on the host's loopback, which no environment reaches by itself.

A relay copies bytes and understands none. Connections use the loop's socket calls without streams, so that one
that waits costs two tasks and no buffer.
"""

import asyncio
import functools
import socket
import struct
from collections.abc import Callable

from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

# ("127.0.0.1", 8333), or the path of a unix socket.
Target = tuple[str, int] | str

CONNECTIONS = 256
_CHUNK = 1 << 16
_CONNECT_SECONDS = 10.0
_ACCEPT_PAUSE_SECONDS = 0.2


class Capacity:
    """How many relayed connections one environment may have; more wait in the listeners' backlogs, so that a
    function that opens thousands starves only itself."""

    def __init__(self, limit: int = CONNECTIONS) -> None:
        self._limit = limit
        self._used = 0
        self._free = asyncio.Event()
        self._free.set()

    @property
    def used(self) -> int:
        return self._used

    async def wait(self) -> None:
        """Returns once a connection may be accepted."""
        await self._free.wait()

    def take(self) -> None:
        self._used += 1
        if self._used >= self._limit:
            self._free.clear()

    def give_back(self) -> None:
        self._used -= 1
        self._free.set()


class Relay:
    """Serves one listening socket of an environment, which it owns, until `close`.

    `target` is asked for each connection. `capacity` is shared by an environment's relays.
    """

    def __init__(
        self, listener: socket.socket, target: Callable[[], Target], capacity: Capacity, *, owner: str
    ) -> None:
        self._listener = listener
        self._target = target
        self._capacity = capacity
        self._owner = owner
        self._tasks = Tasks(f"relay of {owner}")
        self._said: set[str] = set()

    def start(self) -> None:
        self._listener.setblocking(False)
        self._tasks.forever("accept", self._accept())

    async def close(self) -> None:
        """Ends every connection at once. Idempotent."""
        await self._tasks.drain(0)
        self._listener.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._capacity.wait()
            try:
                client, _ = await loop.sock_accept(self._listener)
            except OSError as failure:
                # Out of descriptors, most likely: the connection stays in the backlog until there are some.
                self._say("A relay could not accept a connection.", failure)
                await asyncio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._capacity.take()
            task = self._tasks.once("connection", self._serve(client))
            task.add_done_callback(functools.partial(self._served, client))

    def _served(self, client: socket.socket, _: asyncio.Task[None]) -> None:
        # In a callback, not in the task: a task that is cancelled before its first step runs no `finally`.
        client.close()
        self._capacity.give_back()

    async def _serve(self, client: socket.socket) -> None:
        try:
            upstream = await _connect(self._target())
        except (OSError, TimeoutError) as failure:
            self._say("A relay's target does not answer.", failure)
            _abort(client)
            return
        with upstream:
            try:
                async with asyncio.TaskGroup() as both:
                    both.create_task(_copy(client, upstream))
                    both.create_task(_copy(upstream, client))
            except* OSError:
                # One side was reset; the group has stopped the other direction. The other side learns it the
                # same way: an ordinary end would pass a cut answer off as a whole one.
                _abort(client)
                _abort(upstream)

    def _say(self, sentence: str, failure: BaseException) -> None:
        """Warns once per kind of failure, or a function could fill the log."""
        kind = f"{sentence} {type(failure).__name__}"
        if kind not in self._said:
            self._said.add(kind)
            _log.warning(sentence, environment=self._owner, target=self._target(), failure=repr(failure))


async def _copy(source: socket.socket, sink: socket.socket) -> None:
    """Copies until the source ends, then ends the sink's other half only: the answer may still be on its
    way."""
    loop = asyncio.get_running_loop()
    while data := await loop.sock_recv(source, _CHUNK):
        await loop.sock_sendall(sink, data)
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        # The sink has gone already; its own direction ends by itself.
        return


async def _connect(target: Target) -> socket.socket:
    """Connects to the first of the target's addresses that answers; the last one's OSError or TimeoutError."""
    async with asyncio.timeout(_CONNECT_SECONDS):
        if isinstance(target, str):
            return await _connected(socket.AF_UNIX, target)
        found = await asyncio.get_running_loop().getaddrinfo(*target, type=socket.SOCK_STREAM)
        for family, *_, address in found[:-1]:
            try:
                return await _connected(family, address)
            except OSError as failure:
                _log.debug("An address of a relay's target does not answer.", failure=repr(failure))
        return await _connected(found[-1][0], found[-1][4])


async def _connected(family: int, address: object) -> socket.socket:
    upstream = socket.socket(family, socket.SOCK_STREAM)
    try:
        upstream.setblocking(False)
        if family != socket.AF_UNIX:
            upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(upstream, address)  # type: ignore[arg-type]
    except BaseException:
        upstream.close()
        raise
    return upstream


def _abort(sock: socket.socket) -> None:
    """Makes the close that follows a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
