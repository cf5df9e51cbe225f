"""`ports.Dispatcher` of a process in a cluster: slots that it holds, and the owners of shards for the rest."""

from collections.abc import Mapping

from lambent.kernel.holder import ON_DEMAND, LeaseHolder
from lambent.kernel.models import Function, FunctionVersion, Provisioned
from lambent.kernel.ports import Lease
from lambent.kernel.remote.lease_client import Owners


class ClusterDispatcher:
    """Over one holder. Raises LambdaError."""

    def __init__(self, holder: LeaseHolder, owners: Owners) -> None:
        self._holder = holder
        self._owners = owners

    async def acquire(
        self, function: Function, target: FunctionVersion, *, holder: str, slots: int = 1, alias: str = ""
    ) -> Lease:
        """One slot: `slots` is 1, and `holder` is this process."""
        return await self._holder.acquire(function, target, _bucket(function, target, alias))

    def release(self, lease: Lease, *, slots: int = 1) -> None:
        self._holder.release(lease)

    def not_taken(self, lease: Lease, reason: str) -> None:
        self._holder.not_taken(lease, reason)

    async def configure(self, function: Function) -> None:
        await self._owners.changed(function.name, function.uid)

    async def supersede(self, function: Function) -> None:
        await self._owners.supersede(function.name, function.uid, function.to_run.generation)

    async def forget(self, function: Function) -> None:
        await self._owners.supersede(function.name, function.uid, None)

    async def provisioned(self, function: Function) -> Mapping[str, Provisioned]:
        return await self._owners.provisioned(function.name, function.uid)

    @property
    def used(self) -> int:
        """Slots held here."""
        return self._holder.slots


def _bucket(function: Function, target: FunctionVersion, alias: str) -> str:
    return function.bucket_of(target, alias) if function.provisioned else ON_DEMAND
