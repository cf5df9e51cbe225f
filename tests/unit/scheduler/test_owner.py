"""owner.py: who gets slots, and when they are free again."""

from collections.abc import Callable
from typing import Any

from lambent.kernel.leases import (
    FREED_SECONDS,
    LEASE_SECONDS,
    MOVED,
    NO_EXECUTOR,
    STALE,
    Ask,
    Beat,
    Close,
    Granted,
    Held,
    LeaseState,
    Open,
    Refused,
    Reply,
    Resize,
)
from lambent.kernel.models import VersionKey
from lambent.scheduler.counts import ACCOUNT_FULL, RESERVED_FULL, Counts
from lambent.scheduler.nodes import Nodes
from lambent.scheduler.owner import ASK_SECONDS, ShardOwner

KEY = VersionKey("uid", "$LATEST", 1)
Request = Open | Resize | Close


class World:
    """Shard 3 at epoch 5, with executors "x" and "y"; a function with `reserved` slots."""

    def __init__(self, *, reserved: int | None = 2, must_hear: tuple[str, ...] = (), pool: int = 0) -> None:
        self.now = 0.0
        self.valid = 1e9
        self.sent: list[tuple[str, Request]] = []
        self.grown: list[int] = []
        self.freed: list[str] = []
        self.replies: list[Reply] = []
        self.number = 0
        self.nodes = Nodes()
        self.owner = ShardOwner(
            3,
            5,
            nodes=self.nodes,
            counts=Counts(pool, carves=False),
            must_hear=must_hear,
            send=self._send,
            grow=self.grown.append,
            valid_until=lambda: self.valid,
            now=0.0,
            freed=self.freed.append,
        )
        self.owner.configure("uid", reserved=reserved, provisioned={}, generation=1, now=0.0)

    def _send(self, executor: str, make: Callable[[int], Request]) -> int:
        self.number += 1
        self.sent.append((executor, make(self.number)))
        return self.number

    def beat(self, executor: str, *leases: LeaseState, seen: int | None = None, epoch: int = 5) -> Any:
        self.nodes.heard(Beat(executor, 1, 0, {}, (), 4096, 0, {}), self.now)
        done = self.number if seen is None else seen
        return self.owner.heard(executor, epoch, leases, done, self.now)

    def ask(self, holder: str = "h", want: int = 1, **changes: Any) -> None:
        ask = Ask(holder, "f", KEY, "on-demand", 128, "d", want)
        self.owner.ask(ask._replace(**changes), self.replies.append, self.now)

    def done(self, state: LeaseState | None = None, *, running: int = 0, at: int = -1) -> LeaseState | None:
        """The executor has done a request; by default as it was asked."""
        executor, request = self.sent[at]
        if state is None and isinstance(request, Open):
            state = lease_state(request.lease, request.slots, running, holder=request.holder)
        if state is None and isinstance(request, Resize):
            state = lease_state(request.lease, max(request.slots, running), running)
        self.owner.done(executor, request.request, request.lease, state, self.now)
        return state

    def granted(self, holder: str = "h", want: int = 1) -> Granted:
        self.ask(holder, want)
        self.done()
        reply = self.replies[-1]
        assert not isinstance(reply, Refused)
        return reply[0]

    @property
    def out(self) -> int:
        return self.owner.counts.out_of("uid")


def lease_state(id: str, slots: int, running: int = 0, *, open: bool = True, **changes: Any) -> LeaseState:
    values: dict[str, Any] = {
        "shard": 3,
        "key": KEY,
        "bucket": "on-demand",
        "holder": "h",
        "memory_mb": 128,
    } | changes
    return LeaseState(id=id, slots=slots, running=running, open=open, **values)


def test_slots_are_counted_from_the_request_and_granted_at_the_executors_word() -> None:
    world = World()
    world.beat("x")
    world.ask(want=5)
    assert (world.out, world.replies) == (2, [])
    world.done()
    (reply,) = world.replies
    assert not isinstance(reply, Refused)
    assert [(grant.executor, grant.slots, grant.added) for grant in reply] == [("x", 2, 2)]


def test_a_refusal_carries_awss_reason() -> None:
    world = World()
    world.beat("x")
    world.granted(want=2)
    world.ask("h")
    assert world.replies[-1] == Refused(RESERVED_FULL)


def test_nothing_is_granted_on_an_executor_that_has_not_answered_the_claim() -> None:
    world = World()
    world.beat("x", epoch=4)
    world.ask()
    assert world.sent == []
    world.beat("x")
    world.owner.tick(0.25)
    assert [executor for executor, _ in world.sent] == ["x"]


def test_a_successor_grants_nothing_until_all_were_heard_or_had_their_time() -> None:
    world = World(must_hear=("x", "y"))
    world.beat("x")
    world.ask()
    assert (world.sent, world.owner.ready) == ([], False)
    world.beat("y", lease_state("3.4.1", 2, 2))
    assert world.owner.ready
    assert world.replies == [] or world.replies[-1] == Refused(RESERVED_FULL)
    assert world.out == 2

    waiting = World(must_hear=("gone",))
    waiting.now = FREED_SECONDS - 0.1
    waiting.owner.tick(waiting.now)
    assert not waiting.owner.ready
    waiting.owner.tick(FREED_SECONDS)
    assert waiting.owner.ready


def test_an_ask_that_nobody_can_serve_is_answered_soon() -> None:
    world = World()
    world.ask()
    world.owner.tick(ASK_SECONDS - 0.1)
    assert world.replies == []
    world.owner.tick(ASK_SECONDS)
    assert world.replies == [Refused(NO_EXECUTOR)]


def test_an_ask_that_cannot_be_served_holds_up_no_other() -> None:
    world = World()
    world.beat("x")
    world.ask("h", avoid=("x",))
    world.ask("i")
    assert [request.holder for _, request in world.sent if isinstance(request, Open)] == ["i"]


def test_an_owner_whose_time_is_over_grants_renews_and_prolongs_nothing() -> None:
    world = World()
    world.beat("x")
    grant = world.granted()
    world.valid = world.now
    world.ask()
    assert world.replies[-1] == Refused(MOVED)
    renewed = world.owner.renew("h", {grant.lease: Held(0, 0)}, world.now)
    assert (renewed.leases, renewed.wait) == ({}, True)
    assert world.beat("x", lease_state(grant.lease, 1)) == {}


def test_a_lease_that_is_not_renewed_is_closed_and_counted_until_its_runs_have_ended() -> None:
    world = World()
    world.beat("x")
    grant = world.granted()
    world.owner.tick(LEASE_SECONDS - 0.1)
    assert isinstance(world.sent[-1][1], Open)
    world.owner.tick(LEASE_SECONDS)
    assert isinstance(world.sent[-1][1], Close)
    world.done(lease_state(grant.lease, 1, 1, open=False))
    assert world.out == 1
    world.owner.done("x", 0, grant.lease, lease_state(grant.lease, 0, open=False), world.now)
    assert (world.out, world.freed[-1]) == (0, "uid")


def test_a_request_that_got_lost_is_settled_by_the_next_beat() -> None:
    world = World()
    world.beat("x")
    world.ask()
    world.beat("x", seen=0)  # sent before the request came
    assert world.out == 1
    world.owner.lost("x")
    assert world.out == 1
    world.beat("x", seen=0)
    assert world.replies == [] and world.out == 1, "the slot was free, so it was asked for again"
    assert [type(request) for _, request in world.sent] == [Open, Open]


def test_slots_of_a_silent_executor_are_free_after_its_time_and_no_sooner() -> None:
    world = World()
    world.beat("x")
    world.granted()
    world.owner.tick(FREED_SECONDS - 0.1)
    assert world.out == 1
    world.owner.tick(FREED_SECONDS)
    assert world.out == 0


def test_what_was_taken_as_gone_and_comes_back_is_counted_and_closed() -> None:
    world = World()
    world.beat("x")
    grant = world.granted()
    world.now = FREED_SECONDS
    world.owner.tick(world.now)
    world.beat("x", lease_state(grant.lease, 1, 1))
    world.beat("x", lease_state("3.5.77", 1, 1))
    assert world.out >= 1
    assert isinstance(world.sent[-1][1], Close)


def test_idle_slots_of_another_holder_are_asked_back_and_given_on() -> None:
    world = World()
    world.beat("x")
    grant = world.granted(want=2)
    world.ask("other")
    executor, request = world.sent[-1]
    assert request == Resize(request.request, 3, 5, grant.lease, 1)
    assert world.replies[1:] == []
    world.done(lease_state(grant.lease, 1, 1))
    assert isinstance(world.sent[-1][1], Open)
    world.done()
    assert isinstance(world.replies[-1], tuple)
    assert world.out == 2


def test_all_others_are_tried_before_a_refusal_and_each_one_once() -> None:
    world = World()
    world.beat("x")
    first, second = world.granted("a"), world.granted("b")
    sent = len(world.sent)
    world.ask("c")
    for _ in range(2):
        world.done(running=1)
    assert world.replies[-1] == Refused(RESERVED_FULL)
    asked = [request for _, request in world.sent[sent:] if isinstance(request, Resize)]
    assert {request.lease for request in asked} == {first.lease, second.lease}
    world.ask("c")
    assert len(world.sent) == sent + 2, "what is in use was asked back again at once"


def test_slots_whose_opening_took_too_long_are_given_back() -> None:
    world = World()
    world.beat("x")
    world.ask()
    world.beat("y")
    world.owner.tick(1.6)  # "x" is passed over
    opens = [executor for executor, request in world.sent if isinstance(request, Open)]
    assert len(opens) == 2
    late = world.sent[0][1]
    world.owner.done(opens[0], late.request, late.lease, lease_state(late.lease, 1), 1.7)
    assert any(isinstance(request, Close) and request.lease == late.lease for _, request in world.sent)


def test_an_update_is_certain_once_all_of_the_old_is_closed() -> None:
    world = World(must_hear=("x",))
    certain: list[bool] = []
    world.owner.supersede("uid", 2, certain.append, world.now)
    assert certain == []
    world.beat("x", lease_state("3.4.1", 1, 1))
    assert certain == [] and isinstance(world.sent[-1][1], Close)
    world.done(lease_state("3.4.1", 1, 1, open=False))
    assert certain == [True]
    world.ask()
    assert world.replies == [Refused(STALE)]


def test_an_earlier_updates_word_that_comes_later_brings_nothing_back() -> None:
    world = World()
    world.beat("x")
    certain: list[bool] = []
    world.owner.supersede("uid", 3, certain.append, world.now)
    world.owner.supersede("uid", 2, certain.append, world.now)
    world.ask(key=VersionKey("uid", "$LATEST", 2))
    assert world.replies == [Refused(STALE)]
    assert certain == [True, True]


def test_leases_of_what_the_store_knows_to_be_old_are_closed() -> None:
    world = World()
    world.beat("x")
    grant = world.granted()
    world.owner.configure("uid", reserved=2, provisioned={}, generation=2, now=world.now)
    assert world.sent[-1][1] == Close(world.number, 3, 5, grant.lease)


def test_a_deleted_function_gets_nothing_and_is_forgotten() -> None:
    world = World()
    world.owner.supersede("uid", None, lambda certain: None, world.now)
    world.ask()
    assert world.replies == [Refused(STALE)]
    for now in (30.0, 61.0, 80.0):
        world.owner.tick(now)
    assert not world.owner.known("uid")
    assert dict(world.owner.counts) == {}


def test_a_block_that_is_too_small_is_grown_once_for_all_who_wait() -> None:
    world = World(reserved=None)
    world.beat("x")
    world.ask()
    assert world.grown == [1]
    world.owner.counts.limit = 1
    world.owner.block_changed(0.1)
    assert isinstance(world.sent[-1][1], Open)


def test_an_empty_pool_is_a_refusal_only_after_the_others_had_time_to_give_back() -> None:
    world = World(reserved=None)
    world.beat("x")
    world.ask()
    world.owner.block_changed(0.1, denied=True)
    assert world.replies == []
    world.owner.tick(0.5)
    assert world.grown == [1, 1]
    world.owner.block_changed(0.6, denied=True)
    world.owner.tick(1.7)
    assert world.replies == [Refused(ACCOUNT_FULL)]


def test_what_is_given_back_while_an_ask_waits_for_an_executor_is_grown_again() -> None:
    world = World(reserved=None)
    world.ask()  # and there is no executor
    world.owner.counts.limit = 9
    world.owner.block_changed(0.1)
    world.owner.counts.limit = 0
    world.owner.block_changed(0.5)
    assert (world.grown, world.replies) == ([1, 1], [])


def test_who_asks_an_owner_that_closes_is_sent_to_the_next_one() -> None:
    world = World()
    world.ask()
    certain: list[bool] = []
    world.owner.supersede("other", 2, certain.append, world.now)
    waiting = World(must_hear=("x",))
    waiting.owner.supersede("uid", 2, certain.append, 0.0)
    world.owner.close()
    waiting.owner.close()
    assert world.replies == [Refused(MOVED)]
    assert certain == [True, False]
