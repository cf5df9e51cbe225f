"""dispatcher.py: slots are counted exactly, and refused as AWS refuses."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from unit.scheduler.samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import TooManyRequestsException
from lambent.kernel.models import Alias, Function, FunctionVersion, ProvisionedConfig, VersionKey
from lambent.kernel.ports import Kept, Lease
from lambent.scheduler.dispatcher import LocalDispatcher, ReleasedTwice


def make(limit: int = 3, *, strict: bool = True) -> LocalDispatcher:
    return LocalDispatcher("executor-1", limit, TestClock(), strict=strict)


async def take(dispatcher: LocalDispatcher, wanted: Function, *, slots: int = 1) -> Lease:
    return await dispatcher.acquire(wanted, wanted.to_run, holder="test", slots=slots)


async def refused(dispatcher: LocalDispatcher, wanted: Function) -> str:
    with pytest.raises(TooManyRequestsException) as caught:
        await take(dispatcher, wanted)
    return caught.value.reason


async def test_a_lease_says_what_it_is_for() -> None:
    dispatcher, f = make(), function()
    one, two = await take(dispatcher, f), await take(dispatcher, f)
    assert one.id != two.id
    assert (one.key, one.executor, one.slots) == (f.to_run.key, "executor-1", 1)


async def test_the_accounts_limit_is_exact_and_shared() -> None:
    dispatcher = make(3)
    a, b = function("a", uid="a"), function("b", uid="b")
    leases = [await take(dispatcher, a), await take(dispatcher, b), await take(dispatcher, a)]
    assert await refused(dispatcher, b) == "ConcurrentInvocationLimitExceeded"
    dispatcher.release(leases[0])
    await take(dispatcher, b)
    assert dispatcher.used == 3


async def test_a_reservation_is_carved_out_and_is_the_functions_bound() -> None:
    dispatcher = make(3)
    reserved, other = function("r", uid="r", reserved=2), function("o", uid="o")
    await dispatcher.configure(reserved)
    await take(dispatcher, other)
    assert await refused(dispatcher, other) == "ConcurrentInvocationLimitExceeded"
    await take(dispatcher, reserved)
    await take(dispatcher, reserved)
    assert await refused(dispatcher, reserved) == "ReservedFunctionConcurrentInvocationLimitExceeded"


async def test_a_reservation_of_zero_refuses_everything() -> None:
    assert await refused(make(), function(reserved=0)) == "ReservedFunctionConcurrentInvocationLimitExceeded"


async def test_a_reservation_set_while_running_moves_what_runs() -> None:
    dispatcher = make(4)
    f, other = function("f", uid="f"), function("o", uid="o")
    lease = await take(dispatcher, f)
    await dispatcher.configure(replace(f, reserved_concurrency=1))
    for _ in range(3):
        await take(dispatcher, other)
    assert await refused(dispatcher, other) == "ConcurrentInvocationLimitExceeded"
    await dispatcher.configure(f)
    assert await refused(dispatcher, f) == "ConcurrentInvocationLimitExceeded"
    dispatcher.release(lease)
    await take(dispatcher, f)


async def test_a_deleted_functions_reservation_ends_and_its_running_slots_still_count() -> None:
    dispatcher = make(3)
    gone, other = function("g", uid="g", reserved=3), function("o", uid="o")
    lease = await take(dispatcher, gone)
    await dispatcher.forget(gone)
    await take(dispatcher, other)
    await take(dispatcher, other)
    assert await refused(dispatcher, other) == "ConcurrentInvocationLimitExceeded"
    dispatcher.release(lease)
    await take(dispatcher, other)
    assert dispatcher.used_by("g") == 0


class Keeps:
    """A host that keeps what it is told at once."""

    def __init__(self) -> None:
        self.kept: dict[tuple[VersionKey, str], int] = {}
        self.idle: dict[VersionKey, int] = {}

    def provision(self, target: FunctionVersion, bucket: str, wanted: int, tags: Mapping[str, str]) -> None:
        self.kept[target.key, bucket] = wanted

    def provisioned(self) -> Sequence[Kept]:
        return [Kept(key, bucket, n, n, n) for (key, bucket), n in self.kept.items() if n]

    def warm(self) -> Mapping[VersionKey, int]:
        return self.idle


async def allocated(dispatcher: LocalDispatcher, keeps: Keeps, **allocations: int) -> Function:
    """A function whose alias "live" is its version 1, and version 2 is there too."""
    f = function("f", uid="f")
    versions = {number: replace(f.latest, version=str(number)) for number in (1, 2)}

    async def version(of: Function, number: int) -> FunctionVersion | None:
        return versions.get(number)

    dispatcher.keep_by(keeps, version)
    configs = {qualifier: ProvisionedConfig(count, 1.0) for qualifier, count in allocations.items()}
    f = replace(f, aliases={"live": Alias("live", "1", "r")}, provisioned=configs)
    await dispatcher.configure(f)
    return f


async def test_an_allocation_is_used_first_and_what_is_beyond_it_spills_over() -> None:
    dispatcher, keeps = make(3), Keeps()
    f = await allocated(dispatcher, keeps, live=1)
    one = replace(f.latest, version="1")
    assert keeps.kept == {(one.key, "live"): 1}
    assert (await dispatcher.provisioned(f))["live"].status == "READY"
    buckets = [(await dispatcher.acquire(f, one, holder="t", alias="live")).bucket for _ in range(3)]
    assert buckets == ["live", "on-demand", "on-demand"]
    assert await refused(dispatcher, f) == "ConcurrentInvocationLimitExceeded"


async def test_an_allocation_moves_with_its_alias_and_ends_with_its_function() -> None:
    dispatcher, keeps = make(), Keeps()
    f = await allocated(dispatcher, keeps, live=2)
    moved = replace(f, aliases={"live": Alias("live", "2", "r")})
    await dispatcher.configure(moved)
    assert [(key.version, wanted) for (key, _), wanted in keeps.kept.items()] == [("1", 0), ("2", 2)]
    await dispatcher.forget(moved)
    assert set(keeps.kept.values()) == {0}


async def test_environments_that_are_gone_cost_a_start_again() -> None:
    dispatcher, keeps = make(), Keeps()
    f = await allocated(dispatcher, keeps)
    lease = await take(dispatcher, f)
    dispatcher.release(lease)
    keeps.idle = {f.latest.key: 5}
    dispatcher.look()
    assert dispatcher._counts.of("f").environments == 5
    keeps.idle = {}
    dispatcher.look()
    assert dispatcher._counts.of("f").environments == 0


async def test_a_double_release_is_an_error_and_frees_nothing_twice() -> None:
    dispatcher = make(2)
    lease = await take(dispatcher, function())
    await take(dispatcher, function())
    dispatcher.release(lease)
    with pytest.raises(ReleasedTwice):
        dispatcher.release(lease)
    assert dispatcher.used == 1


async def test_in_production_a_double_release_is_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    dispatcher = make(2, strict=False)
    lease = await take(dispatcher, function())
    await take(dispatcher, function())
    dispatcher.release(lease)
    dispatcher.release(lease)
    assert dispatcher.used == 1
    assert "given back twice" in caplog.text


async def test_slots_of_a_lease_come_back_one_by_one() -> None:
    dispatcher = make(3)
    lease = await take(dispatcher, function(), slots=3)
    dispatcher.release(lease)
    assert dispatcher.used == 2
    dispatcher.release(lease, slots=2)
    assert dispatcher.used == 0


async def test_those_who_asked_hear_of_freed_slots() -> None:
    dispatcher = make()
    heard: list[tuple[str, int]] = []
    dispatcher.freed.append(lambda uid: heard.append((uid, dispatcher.used)))
    dispatcher.release(await take(dispatcher, function()))
    assert heard == [("uid", 0)]


async def test_a_version_draws_on_the_functions_slots() -> None:
    dispatcher = make()
    latest = function(generation=4, reserved=1)
    version = replace(latest.latest, version="1", generation=2)
    await dispatcher.acquire(latest, version, holder="test")
    with pytest.raises(TooManyRequestsException):
        await dispatcher.acquire(latest, latest.latest, holder="test")
    await dispatcher.acquire(replace(latest, reserved_concurrency=None), latest.latest, holder="test")
