"""dispatcher.py: slots are counted exactly, and refused as AWS refuses."""

from dataclasses import replace

import pytest
from unit.scheduler.samples import function

from lambent.kernel.clock import TestClock
from lambent.kernel.errors import TooManyRequestsException
from lambent.kernel.models import Function
from lambent.kernel.ports import Lease
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
