"""Provisioned allocations: which version each stands for, and how far it is. Pure; the same for one process as
for the owner of a shard.

AWS: "Configuring provisioned concurrency for a function".
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping

from lambent.kernel.arn import version_number
from lambent.kernel.models import Function, FunctionVersion, Provisioned
from lambent.kernel.ports import Kept

IN_PROGRESS, READY, FAILED = "IN_PROGRESS", "READY", "FAILED"


def version_of(function: Function, qualifier: str) -> int | None:
    """The published version that an allocation is of; None: it names none any more."""
    alias = function.aliases.get(qualifier)
    return version_number(qualifier if alias is None else alias.function_version)


async def allocated_versions(
    function: Function, version: Callable[[Function, int], Awaitable[FunctionVersion | None]]
) -> dict[str, FunctionVersion]:
    """{qualifier: what is to be kept initialised}; without those whose version is gone."""
    found: dict[str, FunctionVersion] = {}
    for qualifier in function.provisioned:
        number = version_of(function, qualifier)
        target = await version(function, number) if number is not None else None
        if target is not None:
            found[qualifier] = target
    return found


def told(function: Function, kept: Iterable[Kept]) -> Mapping[str, Provisioned]:
    """By qualifier, from what hosts keep (of this function or of any)."""
    answer: dict[str, Provisioned] = {}
    mine = [each for each in kept if each.key.uid == function.uid]
    for qualifier, config in function.provisioned.items():
        number = version_of(function, qualifier)
        of = [each for each in mine if each.bucket == qualifier and each.key.version == str(number)]
        ready = min(config.requested, sum(each.ready for each in of))
        started = min(config.requested, sum(each.started for each in of))
        failed = next((each.failed for each in of if each.failed), None)
        status, reason = IN_PROGRESS, None
        if ready >= config.requested:
            status = READY
        elif failed is not None:
            status, reason = FAILED, failed
        answer[qualifier] = Provisioned(config.requested, started, ready, status, reason)
    return answer
