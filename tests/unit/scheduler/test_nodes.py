"""nodes.py: slots go where the function is warm, its code lies and memory is free."""

from typing import Any

from lambent.kernel.leases import Beat, KeptState
from lambent.kernel.models import VersionKey
from lambent.scheduler.nodes import Nodes, Wish

KEY = VersionKey("uid", "$LATEST", 1)


def nodes(**executors: dict[str, Any]) -> Nodes:
    made = Nodes()
    for name, facts in executors.items():
        values: dict[str, Any] = {"memory_mb": 1024, "granted_mb": 0, "warm": {}} | facts
        made.heard(Beat(name, 1, 0, {}, (), **values), 0.0)
    return made


def wish(slots: int = 1, **changes: Any) -> Wish:
    values: dict[str, Any] = {"bucket": "on-demand", "memory_mb": 128, "digest": "d", "slots": slots}
    return Wish(KEY, **(values | changes))


def test_idle_environments_come_first_then_cached_code_then_free_memory() -> None:
    made = nodes(a={"memory_mb": 4096}, b={"cached": frozenset({"d"})}, c={"warm": {KEY: 1}})
    assert made.place(wish(), 0.0) == [("c", 1)]
    made.granted("c", 128, KEY, 1)
    assert made.place(wish(), 0.0) == [("b", 1)]
    assert nodes(a={"memory_mb": 4096}, b={}).place(wish(), 0.0) == [("a", 1)]


def test_slots_spread_as_far_as_memory_goes() -> None:
    made = nodes(a={"memory_mb": 256}, b={"memory_mb": 512})
    assert dict(made.place(wish(9), 0.0)) == {"b": 4, "a": 2}


def test_where_no_memory_is_free_the_freest_has_the_last_word() -> None:
    made = nodes(a={"granted_mb": 1024}, b={"granted_mb": 1000})
    assert made.place(wish(3), 0.0) == [("b", 3)]


def test_who_is_quiet_drains_is_cut_off_or_not_among_the_chosen_gets_nothing() -> None:
    made = nodes(a={}, b={"draining": True})
    assert made.place(wish(), 2.9) == [("a", 1)]
    assert made.place(wish(), 3.0) == []
    assert made.place(wish(among=frozenset({"b"})), 0.0) == []
    made.lost("a")
    assert made.place(wish(), 0.0) == []


def test_an_allocations_slots_go_where_its_environments_are() -> None:
    kept = (KeptState(KEY, "live", 2, 2),)
    made = nodes(a={"kept": kept}, b={"memory_mb": 9999})
    assert made.place(wish(5, bucket="live"), 0.0) == [("a", 2)]
    assert made.place(wish(5, bucket="live", busy={"a": 2}), 0.0) == []
