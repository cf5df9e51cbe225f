"""Serves a scheduler's leases over gRPC: to holders, and to executors, which join it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any, Protocol

import grpc

from lambent.internal.v1 import leases_pb2 as pb
from lambent.internal.v1 import leases_pb2_grpc
from lambent.kernel import leases
from lambent.kernel.errors import LambdaError
from lambent.kernel.log import Log
from lambent.kernel.models import Provisioned
from lambent.kernel.remote import lease_messages as messages
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
# What an executor that does not read may have waiting for it.
_MOST_WAITING = 10_000


class Joined(Protocol):
    """The stream of one executor."""

    def receive(self, message: leases.FromExecutor) -> None: ...

    def closed(self) -> None: ...


class Leases(Protocol):
    """What is served. Raises LambdaError."""

    async def ask(self, shard: int, ask: leases.Ask) -> leases.Reply: ...

    def renew(
        self, holder: str, held: Mapping[int, Mapping[str, leases.Held]]
    ) -> Mapping[int, leases.Renewed]: ...

    async def changed(self, name: str, uid: str) -> None: ...

    async def supersede(self, name: str, uid: str, generation: int | None) -> None: ...

    async def provisioned(self, name: str, uid: str) -> Mapping[str, Provisioned]: ...

    def join(self, executor: str, send: Callable[[leases.ToExecutor], None]) -> Joined: ...


class LeaseServicer(leases_pb2_grpc.LeaseServiceServicer):
    """Over a scheduler's leases."""

    def __init__(self, service: Leases, tasks: Tasks) -> None:
        self._service = service
        self._tasks = tasks

    async def Ask(self, request: pb.AskRequest, context: Any) -> pb.AskResponse:
        async with _Errors(context):
            return messages.reply_to(await self._service.ask(request.shard, messages.ask_of(request)))
        raise AssertionError("aborted")

    async def Renew(self, request: pb.RenewRequest, context: Any) -> pb.RenewResponse:
        held = {
            shard: {lease: leases.Held(each.running, each.idle) for lease, each in of.leases.items()}
            for shard, of in request.shards.items()
        }
        renewed = self._service.renew(request.holder, held)
        return pb.RenewResponse(shards={shard: messages.renewed_to(each) for shard, each in renewed.items()})

    async def FunctionChanged(
        self, request: pb.FunctionChangedRequest, context: Any
    ) -> pb.FunctionChangedResponse:
        async with _Errors(context):
            await self._service.changed(request.name, request.uid)
        return pb.FunctionChangedResponse()

    async def Supersede(self, request: pb.SupersedeRequest, context: Any) -> pb.SupersedeResponse:
        generation = request.generation if request.HasField("generation") else None
        async with _Errors(context):
            await self._service.supersede(request.name, request.uid, generation)
        return pb.SupersedeResponse()

    async def GetProvisioned(
        self, request: pb.GetProvisionedRequest, context: Any
    ) -> pb.GetProvisionedResponse:
        async with _Errors(context):
            found = await self._service.provisioned(request.name, request.uid)
            return pb.GetProvisionedResponse(
                allocations={
                    qualifier: pb.Provisioned(
                        requested=each.requested,
                        allocated=each.allocated,
                        available=each.available,
                        status=each.status,
                        reason=each.reason or "",
                    )
                    for qualifier, each in found.items()
                }
            )
        raise AssertionError("aborted")

    async def Join(
        self, request_iterator: AsyncIterator[pb.JoinRequest], context: Any
    ) -> AsyncIterator[pb.JoinResponse]:
        first = await anext(request_iterator, None)
        if first is None or first.WhichOneof("message") != "beat":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "The first message must be a beat.")
        assert first is not None
        waiting: asyncio.Queue[leases.ToExecutor | None] = asyncio.Queue()

        def send(message: leases.ToExecutor) -> None:
            if waiting.qsize() < _MOST_WAITING:
                waiting.put_nowait(message)
            else:
                reading.cancel()  # which ends the stream: it comes back, and is told everything anew

        joined = self._service.join(first.beat.executor, send)
        reading = self._tasks.once(
            f"executor {first.beat.executor}", self._read(first, request_iterator, joined)
        )
        reading.add_done_callback(lambda _: waiting.put_nowait(None))
        try:
            while (message := await waiting.get()) is not None:
                yield messages.to_executor(message)
        finally:
            joined.closed()
            reading.cancel()

    @staticmethod
    async def _read(first: pb.JoinRequest, rest: AsyncIterator[pb.JoinRequest], joined: Joined) -> None:
        message: pb.JoinRequest | None = first
        while message is not None:
            said = messages.of_executor(message)
            if said is not None:
                joined.receive(said)
            message = await anext(rest, None)


class _Errors:
    """LambdaErrors become a status with their text."""

    def __init__(self, context: Any) -> None:
        self._context = context

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        if isinstance(failure, LambdaError):
            await self._context.abort(grpc.StatusCode.UNAVAILABLE, failure.message)


def add_to(server: grpc.aio.Server, service: Leases, tasks: Tasks) -> None:
    """Serves it."""
    leases_pb2_grpc.add_LeaseServiceServicer_to_server(LeaseServicer(service, tasks), server)
