"""Serves a `ports.EnvironmentHost` to other processes by frames. It needs only the port, so it is no part of
the executor."""

import asyncio

from lambent.kernel.log import Log
from lambent.kernel.ports import Clock, EnvironmentHost
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_session import HANDSHAKE_SECONDS, STREAMS, Session
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
CONNECTIONS = 1024
_ROOM = 512 << 20
_CHECK_SECONDS = 10.0
_SILENT_CHECKS = 3


class HostServer:
    """`executor`: this executor's id, which clients must ask for; `streams`: requests at once on a
    connection; `room`: bytes of large payloads that may be on their way at once."""

    def __init__(
        self,
        host: EnvironmentHost,
        *,
        executor: str,
        access: Access,
        clock: Clock,
        streams: int = STREAMS,
        room: int = _ROOM,
    ) -> None:
        self.host = host
        self.executor = executor
        self.access = access
        self.tasks = Tasks("frames")
        self.streams = streams
        self.room = room
        self._clock = clock
        self._server: asyncio.Server | None = None
        self._sessions: set[Session] = set()
        self._closing = False
        self._change = asyncio.Event()

    async def open(self, address: str, port: int) -> int:
        """Listens; the port (of 0: a free one). Raises ValueError for an address beyond loopback without a key
        or TLS, OSError if the port is taken."""
        self.access.check(address, "Executor frames on")
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: Session(self).wire,
            address,
            port,
            ssl=self.access.tls,
            ssl_handshake_timeout=HANDSHAKE_SECONDS if self.access.tls is not None else None,
            backlog=1024,
        )
        self.tasks.forever("check", self._check())
        taken: int = self._server.sockets[0].getsockname()[1]
        return taken

    def __len__(self) -> int:
        """Connections."""
        return len(self._sessions)

    def admit(self, session: Session) -> bool:
        if self._closing or len(self._sessions) >= CONNECTIONS:
            return False
        self._sessions.add(session)
        return True

    def changed(self, session: Session) -> None:
        if not session.open:
            self._sessions.discard(session)
        if self._closing:
            self._change.set()

    async def _check(self) -> None:
        while True:
            await self._clock.sleep(_CHECK_SECONDS)
            for session in list(self._sessions):
                session.check(most_silent=_SILENT_CHECKS)

    async def close(self, seconds: float = 10.0) -> int:
        """Takes no more, waits at most so long for what was taken, then ends the connections; how many requests
        were cut off. Their runs go on: the host has its own drain."""
        self._closing = True
        if self._server is not None:
            self._server.close()
        for session in list(self._sessions):
            session.drain()
        try:
            async with asyncio.timeout(seconds):
                while any(len(session) for session in self._sessions):
                    self._change.clear()
                    await self._change.wait()
        except TimeoutError:
            pass
        late = sum(len(session) for session in self._sessions)
        sessions = list(self._sessions)
        for session in sessions:
            session.wire.close()
        if sessions:
            await asyncio.wait([session.ended for session in sessions], timeout=1.0)
        for session in sessions:
            session.wire.abort()
        if sessions:
            await asyncio.wait([session.ended for session in sessions])
        if self._server is not None:
            await self._server.wait_closed()
        await self.tasks.drain(1.0)
        return late
