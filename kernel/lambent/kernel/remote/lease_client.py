"""The way to the owners of shards over gRPC (`holder.OwnerLink`), and an executor's stream to a scheduler."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, TypeVar

import grpc

from lambent.internal.v1 import leases_pb2 as pb
from lambent.internal.v1 import leases_pb2_grpc
from lambent.kernel import leases
from lambent.kernel.errors import LambdaError, ServiceException
from lambent.kernel.log import Log
from lambent.kernel.models import Provisioned, ShardOwner
from lambent.kernel.ports import Clock, ShardLocks
from lambent.kernel.remote import lease_messages as messages
from lambent.kernel.remote.grpc_access import Cluster
from lambent.kernel.remote.lease_server import Leases
from lambent.kernel.tasks import Tasks

_log = Log(__name__)
_T = TypeVar("_T")
# An owner answers within half of it; one that does not hangs, and may not be the owner any more.
_ASK_SECONDS = 4.0
_RENEW_SECONDS = 2.0
_SUPERSEDE_SECONDS = 30.0
# Longer than a takeover, for what a client waits for.
_TAKEOVER_SECONDS = 8.0
_PAUSE_SECONDS = 0.2
# Owners are looked up at most so often.
_LOOK_SECONDS = 0.1
_SERVICE = "/lambent.internal.v1.LeaseService/"


class Owners:
    """Who owns which shard, by Redis, and the calls to them. `here`: the id and the leases of this very
    process, which are asked without a network."""

    def __init__(
        self,
        locks: ShardLocks,
        cluster: Cluster,
        clock: Clock,
        *,
        shards: int,
        here: tuple[str, Leases] | None = None,
    ) -> None:
        self._locks = locks
        self._cluster = cluster
        self._clock = clock
        self._shards = shards
        self._here = here
        self._owners: Mapping[int, ShardOwner] = {}
        self._looked = float("-inf")
        self._looking = asyncio.Lock()
        self._channels: dict[str, tuple[grpc.aio.Channel, Any]] = {}

    # ---- holder.OwnerLink -----------------------------------------------------------------------------

    async def ask(self, shard: int, ask: leases.Ask) -> leases.Reply:
        for fresh in (False, True):
            owner = await self._owner(shard, fresh=fresh)
            here = self._local(owner)
            if here is not None:
                reply = await here.ask(shard, ask)
            else:
                try:
                    answer = await self._call(owner.address, "Ask", messages.ask_to(shard, ask), _ASK_SECONDS)
                except LambdaError:
                    if fresh:
                        raise
                    continue
                reply = messages.reply_of(answer)
            if not (isinstance(reply, leases.Refused) and reply.reason == leases.MOVED):
                return reply
        return leases.Refused(leases.MOVED)

    async def renew(
        self, holder: str, held: Mapping[int, Mapping[str, leases.Held]]
    ) -> Mapping[int, leases.Renewed]:
        if any(shard not in self._owners for shard in held):
            try:
                await self._look()
            except LambdaError as failure:
                _log.warning("The owners of shards are not known.", why=failure.message)
        by_owner: dict[ShardOwner, dict[int, Mapping[str, leases.Held]]] = {}
        answers: dict[int, leases.Renewed] = {}
        for shard, of in held.items():
            owner = self._owners.get(shard)
            here = None if owner is None else self._local(owner)
            if here is not None:
                answers |= here.renew(holder, {shard: of})
            elif owner is not None:
                # By where it answers: the epochs of its shards differ.
                place = ShardOwner(owner.owner, owner.address, 0)
                by_owner.setdefault(place, {})[shard] = of
        found = await asyncio.gather(
            *(self._renew(owner.address, holder, each) for owner, each in by_owner.items())
        )
        for each in found:
            answers |= each
        if any(shard not in answers for shard in held):
            self._owners = {}
        return answers

    async def _renew(
        self, address: str, holder: str, held: Mapping[int, Mapping[str, leases.Held]]
    ) -> Mapping[int, leases.Renewed]:
        request = pb.RenewRequest(
            holder=holder,
            shards={
                shard: pb.HeldLeases(
                    leases={
                        lease: pb.HeldLease(running=each.running, idle=each.idle) for lease, each in of.items()
                    }
                )
                for shard, of in held.items()
            },
        )
        try:
            answer = await self._call(address, "Renew", request, _RENEW_SECONDS)
        except LambdaError as failure:
            _log.info("A scheduler did not renew leases.", scheduler=address, why=failure.message)
            return {}
        return {shard: messages.renewed_of(each) for shard, each in answer.shards.items()}

    # ---- what becomes of functions --------------------------------------------------------------------

    async def changed(self, name: str, uid: str) -> None:
        """Something of a function was written. Raises LambdaError: its owner does not know yet."""
        await self._of(
            uid,
            lambda here: here.changed(name, uid),
            "FunctionChanged",
            pb.FunctionChangedRequest(name=name, uid=uid),
        )

    async def supersede(self, name: str, uid: str, generation: int | None) -> None:
        """Returns once nothing older starts any more. Raises LambdaError: that is not certain."""
        request = pb.SupersedeRequest(name=name, uid=uid, generation=generation)
        await self._of(uid, lambda here: here.supersede(name, uid, generation), "Supersede", request)

    async def provisioned(self, name: str, uid: str) -> Mapping[str, Provisioned]:
        """By qualifier. Raises LambdaError."""
        request = pb.GetProvisionedRequest(name=name, uid=uid)

        async def local(here: Leases) -> Any:
            return await here.provisioned(name, uid)

        answer = await self._of(uid, local, "GetProvisioned", request)
        if not isinstance(answer, pb.GetProvisionedResponse):
            found: Mapping[str, Provisioned] = answer
            return found
        return {
            qualifier: Provisioned(
                each.requested, each.allocated, each.available, each.status, each.reason or None
            )
            for qualifier, each in answer.allocations.items()
        }

    async def _of(
        self, uid: str, local: Callable[[Leases], Awaitable[Any]], method: str, request: object
    ) -> Any:
        """Tries again while a takeover goes on."""
        until = self._clock.monotonic() + _TAKEOVER_SECONDS
        while True:
            try:
                owner = await self._owner(leases.shard_of(uid, self._shards), fresh=True)
                here = self._local(owner)
                if here is not None:
                    return await local(here)
                return await self._call(owner.address, method, request, _SUPERSEDE_SECONDS)
            except LambdaError:
                if self._clock.monotonic() >= until:
                    raise
            await self._clock.sleep(_PAUSE_SECONDS)

    # ---- who, and how ---------------------------------------------------------------------------------

    def _local(self, owner: ShardOwner) -> Leases | None:
        return self._here[1] if self._here is not None and owner.owner == self._here[0] else None

    async def _owner(self, shard: int, *, fresh: bool) -> ShardOwner:
        if fresh or shard not in self._owners:
            await self._look()
        owner = self._owners.get(shard)
        if owner is None:
            raise ServiceException("The function's shard has no owner now.")
        return owner

    async def _look(self) -> None:
        """Once for all who want to know it now."""
        wanted = self._clock.monotonic()
        async with self._looking:
            if self._looked >= wanted:
                return
            wait = self._looked + _LOOK_SECONDS - wanted
            if wait > 0:
                await self._clock.sleep(wait)
            began = self._clock.monotonic()
            self._owners = await self._locks.owners()
            self._looked = began

    async def _call(self, address: str, method: str, request: object, seconds: float) -> Any:
        """Raises ServiceException."""
        entry = self._channels.get(address)
        if entry is None:
            channel = self._cluster.channel(address)
            entry = self._channels[address] = channel, leases_pb2_grpc.LeaseServiceStub(channel)
        try:
            return await getattr(entry[1], method)(
                request, timeout=seconds, metadata=self._cluster.metadata(_SERVICE + method)
            )
        except grpc.aio.AioRpcError as failure:
            raise ServiceException(f"The scheduler at {address} does not answer: {failure.details()}") from None

    async def close(self) -> None:
        for channel, _ in self._channels.values():
            await channel.close()
        self._channels.clear()


class JoinStream:
    """`executor.joining.Stream` to one scheduler."""

    def __init__(self, cluster: Cluster, address: str, tasks: Tasks) -> None:
        self._channel = cluster.channel(address)
        stub = leases_pb2_grpc.LeaseServiceStub(self._channel)
        self._call = stub.Join(metadata=cluster.metadata(_SERVICE + "Join"))
        self._waiting: asyncio.Queue[leases.FromExecutor] = asyncio.Queue()
        self._writing = tasks.once("messages to a scheduler", self._write())

    def send(self, message: leases.FromExecutor) -> None:
        self._waiting.put_nowait(message)

    async def _write(self) -> None:
        try:
            while True:
                await self._call.write(messages.from_executor(await self._waiting.get()))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            return  # the reader learns it too

    async def _read(self) -> AsyncIterator[leases.ToExecutor]:
        try:
            async for message in self._call:
                said = messages.at_executor(message)
                if said is not None:
                    yield said
        except grpc.aio.AioRpcError as failure:
            raise ServiceException(f"The stream to a scheduler broke: {failure.details()}") from None

    def __aiter__(self) -> AsyncIterator[leases.ToExecutor]:
        return self._read()

    async def close(self) -> None:
        self._writing.cancel()
        self._call.cancel()
        await self._channel.close()
