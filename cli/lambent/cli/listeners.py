"""The sockets that `lambent up` serves on, and uvicorn around them under our own signals, because a stop has an
order (no new work, drain, end) that uvicorn's own handlers would cut across."""

import asyncio
import errno
import os
import shutil
import socket
import stat
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import uvicorn

from lambent.cli.bounded_http import BoundedHttp
from lambent.cli.client import Failed
from lambent.kernel.loopback import is_loopback
from lambent.kernel.tasks import Tasks

# sun_path holds 108 bytes with the closing zero; a name of up to 20 goes into the folder.
_LONGEST_FOLDER = 86
# For the errors of what was cut off to reach its clients.
_LAST_WORDS_SECONDS = 1.0


def bind(host: str, port: int, *, flag: str = "--port", variable: str = "LAMBENT_PORT") -> socket.socket:
    """A listening TCP socket. Raises Failed that names the flag to change."""
    try:
        family, kind, number, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, number)
    except OSError as failure:
        raise Failed(
            f"{host} is no address of this machine ({failure.strerror}). Change it with --host."
        ) from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(4096)
    except OSError as failure:
        listener.close()
        if failure.errno == errno.EADDRINUSE:
            raise Failed(
                f"port {port} on {host} is taken. Take another with {flag} N or {variable}=N (0: a free one)."
            ) from None
        if failure.errno == errno.EACCES:
            raise Failed(
                f"port {port} needs root. Take one above 1023 with {flag} N or {variable}=N."
            ) from None
        raise Failed(f"can't listen on {host}:{port} ({failure.strerror}). Change it with --host.") from None
    listener.setblocking(False)
    return listener


def exposed(listener: socket.socket) -> str | None:
    """A warning if others than this machine reach the listener."""
    host, port = listener.getsockname()[:2]
    if is_loopback(f"http://[{host}]" if ":" in host else f"http://{host}"):
        return None
    return (
        f"warning: Lambent listens on {host}, not on loopback alone, and checks no signatures yet: whoever "
        f"reaches port {port} can run code here. Shut that port to others, or leave --host out."
    )


@contextmanager
def socket_folder(own: Path, instance: str) -> Iterator[Path]:
    """A private folder for unix sockets: `own`, or, where its path is too long for a socket's, one with a short
    path. Gone afterwards; what a killed server left is taken over, since the name is the instance's."""
    folder = own
    if len(os.fsencode(own)) > _LONGEST_FOLDER:
        folder = Path(tempfile.gettempdir()) / f"lambent-{os.geteuid()}-{instance}-up"
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    # Somebody may have made it before us, to listen in.
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise Failed(f"{folder} is not this user's private folder. Remove it, then start again.")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # in the data folder or named for it: the next start's


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket that only this user may connect to, in the place of a dead server's."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listener.bind(str(path))
    finally:
        os.umask(before)
    listener.listen(1024)
    listener.setblocking(False)
    return listener


class Serving(Protocol):
    """What serves on one socket, started and stopped with the others."""

    async def start(self, tasks: Tasks, name: str) -> None:
        """Returns when it serves."""

    def stop_accepting(self, seconds: float) -> None:
        """No new connections; those that are idle close, those that are busy are answered first, within so
        long."""

    async def stopped(self) -> None:
        """Waits until the last connection has been answered."""

    def cut_off(self) -> None:
        """Ends the connections that are left."""


class Listener:
    """One application on one socket."""

    def __init__(self, app: Callable[..., Awaitable[Any]], listener: socket.socket, *, drain: float) -> None:
        config = uvicorn.Config(
            app,
            http=BoundedHttp,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=int(drain) + 20,
        )
        self._server = uvicorn.Server(config)
        self._socket = listener
        self._serving: asyncio.Task[None] | None = None

    async def start(self, tasks: Tasks, name: str) -> None:
        """Returns when it serves."""
        # `_serve` and not `serve`: the latter takes the signals for itself.
        self._serving = tasks.once(name, self._server._serve([self._socket]))
        while not self._server.started and not self._serving.done():
            await asyncio.sleep(0.01)

    def stop_accepting(self, seconds: float) -> None:
        """No new connections; those that are idle close, those that are busy are answered first. (When the
        rest is cut off is `answered`'s.)"""
        self._server.should_exit = True

    async def stopped(self) -> None:
        """Waits until the last connection has been answered."""
        if self._serving is not None:
            await asyncio.shield(self._serving)
        self._socket.close()

    def cut_off(self) -> None:
        """Ends the connections that are left; their requests learn that the client hung up."""
        for connection in list(self._server.server_state.connections):
            transport = connection.transport
            if transport is not None:
                transport.abort()
        self._server.force_exit = True


async def answered(
    listeners: Sequence[Serving], tasks: Tasks, *, seconds: float, cut_short: asyncio.Event
) -> None:
    """Returns when the last connections have been answered. Those that are left after `seconds`, or soon after
    `cut_short` is set, are cut off: one client that reads or sends nothing must not keep a server from
    stopping."""

    async def all_stopped() -> None:
        await asyncio.gather(*(each.stopped() for each in listeners))

    async def cut() -> None:
        await cut_short.wait()

    last, cutting = tasks.once("last answers", all_stopped()), tasks.once("no more waiting", cut())
    try:
        await asyncio.wait([last, cutting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not last.done() and cutting.done():
            await asyncio.wait([last], timeout=_LAST_WORDS_SECONDS)
        if not last.done():
            for each in listeners:
                each.cut_off()
        await last
    finally:
        cutting.cancel()
