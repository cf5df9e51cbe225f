"""One end of a connection of frames, driven by hand: an executor or a client that stops, lies or breaks off
where the test wants it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from remote_hosts import LEASE, TARGET

from lambent.internal.v1.host_pb2 import Challenge, DefineTarget, Frame, Hello, Proof, Welcome
from lambent.kernel.remote import auth
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.host_client import Address
from lambent.kernel.store import codec


class Peer:
    """Reads and writes whole frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> Frame:
        """Raises IncompleteReadError or ConnectionError at the end."""
        size = int.from_bytes(await self.reader.readexactly(4), "big")
        return Frame.FromString(await self.reader.readexactly(size))

    async def read_kind(self, kind: str) -> Frame:
        """The next frame of a kind; others are passed over."""
        while True:
            frame = await self.read()
            if frame.WhichOneof("body") == kind:
                return frame

    def write(self, frame: Frame) -> None:
        data = frame.SerializeToString()
        self.writer.write(len(data).to_bytes(4, "big") + data)

    async def at_end(self) -> bool:
        """Reads what is left; whether the other side has closed it."""
        try:
            while True:
                await self.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            return True

    async def close(self) -> None:
        self.writer.close()
        try:
            await self.writer.wait_closed()
        except ConnectionError:
            pass

    # ---- the client's side ----------------------------------------------------------------------------

    async def shake(self, access: Access, *, mac: bytes | None = None, executor: str = LEASE.executor) -> Frame:
        """The server's last word: a Welcome, or a Failed."""
        mine = auth.nonce()
        self.write(Frame(hello=Hello(protocol=1, nonce=mine, executor=executor, client="peer")))
        nonces = (mine, (await self.read()).challenge.nonce)
        proof = access.proof("client", nonces=nonces, executor=executor) if mac is None else mac
        self.write(Frame(proof=Proof(mac=proof)))
        return await self.read()

    def define(self, number: int = 0) -> None:
        self.write(Frame(define_target=DefineTarget(number=number, version=codec.encode(TARGET))))

    # ---- the executor's side --------------------------------------------------------------------------

    async def welcome(
        self, access: Access, *, keyed: bool | None = None, mac: bytes | None = None, streams: int = 100
    ) -> None:
        hello = (await self.read()).hello
        nonces = (hello.nonce, auth.nonce())
        keyed = access.key is not None if keyed is None else keyed
        self.write(Frame(challenge=Challenge(protocol=1, nonce=nonces[1], keyed=keyed)))
        await self.read_kind("proof")
        proof = access.proof("executor", nonces=nonces, executor=hello.executor) if mac is None else mac
        self.write(Frame(welcome=Welcome(mac=proof, streams=streams, targets=1024)))


@asynccontextmanager
async def connected(address: Address, access: Access | None = None) -> AsyncIterator[Peer]:
    """A client's end, welcomed if it has an access."""
    peer = Peer(*await asyncio.open_connection(*address))
    try:
        if access is not None:
            assert (await peer.shake(access)).HasField("welcome")
        yield peer
    finally:
        await peer.close()


@asynccontextmanager
async def executor(act: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Address]:
    """A server that does `act` with each connection and closes it then. What `act` raises is raised at the
    end."""
    failures: list[BaseException] = []
    acting: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        acting.add(task)
        peer = Peer(reader, writer)
        try:
            await act(peer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # the client, or the test, has ended
        except BaseException as failure:
            failures.append(failure)
        finally:
            await peer.close()
            acting.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    host, port = server.sockets[0].getsockname()[:2]
    try:
        yield Address(host, port)
    finally:
        server.close()
        for task in list(acting):
            task.cancel()
        await asyncio.gather(*acting, return_exceptions=True)
        await server.wait_closed()
    if failures:
        raise failures[0]
