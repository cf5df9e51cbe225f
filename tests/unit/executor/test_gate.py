"""gate.py: an executor takes what its open leases allow, from owners that have a say, in their time."""

import pytest

from lambent.executor.gate import Gate
from lambent.kernel.errors import NotStarted
from lambent.kernel.leases import SILENT_SECONDS, Answer, Beat, Claim, Close, Done, Open, Resize
from lambent.kernel.models import VersionKey

KEY = VersionKey("uid", "$LATEST", 1)
FACTS = Beat("x", 7, 0, {}, (), 4096, 0, {})


class Driven:
    """A gate whose shard 3 is owned by "s" at epoch 5, with one lease of two slots for ten seconds."""

    def __init__(self) -> None:
        self.pushed: list[tuple[str, Done]] = []
        self.gate = Gate(lambda owner, done: self.pushed.append((owner, done)))
        self.number = 0
        self.claim("s", 5)
        self.gate.answered("s", Answer(1, {3: 5}, {}), 0.0, 0.0)
        self.open("l", slots=2)

    def claim(self, owner: str, epoch: int, now: float = 0.0) -> None:
        self.number += 1
        assert self.gate.request(owner, Claim(self.number, 3, epoch), now) is None

    def open(self, lease: str, *, slots: int, owner: str = "s", epoch: int = 5, now: float = 0.0) -> Done:
        self.number += 1
        message = Open(self.number, 3, epoch, lease, KEY, "on-demand", "h", 128, slots, 10.0)
        done = self.gate.request(owner, message, now)
        assert done is not None and done.request == self.number
        return done

    def ask(self, kind: type[Resize] | type[Close], *rest: int, owner: str = "s", epoch: int = 5) -> Done:
        self.number += 1
        done = self.gate.request(owner, kind(self.number, 3, epoch, "l", *rest), 0.0)
        assert done is not None
        return done

    def refused(self, lease: str = "l", key: VersionKey = KEY, now: float = 0.0) -> str:
        with pytest.raises(NotStarted) as refusal:
            self.gate.begin(lease, key, now)
        return refusal.value.reason


def test_as_many_begin_at_once_as_there_are_slots() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    driven.gate.begin("l", KEY, 0.0)
    assert driven.refused() == "full"
    driven.gate.end("l")
    driven.gate.begin("l", KEY, 0.0)
    assert driven.gate.running == 2
    assert driven.pushed == []


def test_nothing_begins_without_a_lease_or_for_another_version() -> None:
    driven = Driven()
    assert driven.refused("other") == "closed"
    assert driven.refused(key=VersionKey("uid", "$LATEST", 2)) == "closed"


def test_a_lease_that_is_over_takes_nothing_and_is_named_until_its_runs_have_ended() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    assert driven.refused(now=10.0) == "expired"
    (state,) = driven.gate.beat("s", FACTS, 10.0).leases
    assert (state.slots, state.running, state.open) == (1, 1, False)
    driven.gate.end("l")
    ((owner, done),) = driven.pushed
    assert (owner, done.request, done.lease) == ("s", 0, "l")
    assert done.state is not None and done.state.running == 0
    assert driven.gate.beat("s", FACTS, 10.0).leases == ()


def test_an_answer_renews_leases_of_its_epoch_only() -> None:
    driven = Driven()
    driven.gate.answered("s", Answer(2, {3: 5}, {"l": 8.0}), 5.0, 6.0)
    driven.gate.begin("l", KEY, 13.9)
    driven.gate.answered("s", Answer(3, {3: 4}, {"l": 8.0}), 13.0, 13.0)
    assert driven.refused(now=14.0) == "expired"


def test_a_resize_never_goes_below_what_runs() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    done = driven.ask(Resize, 0)
    assert done.state is not None and (done.state.slots, done.state.open) == (1, True)
    assert driven.refused() == "full"
    driven.gate.end("l")
    driven.gate.begin("l", KEY, 0.0)
    assert driven.refused() == "full"


def test_a_closed_lease_takes_nothing_and_what_it_runs_goes_on() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    done = driven.ask(Close)
    assert done.state is not None and (done.state.slots, done.state.open) == (1, False)
    assert driven.refused() == "closed"
    assert driven.gate.running == 1


@pytest.mark.parametrize(("owner", "epoch"), [("s", 4), ("s", 6), ("other", 5)])
def test_who_does_not_own_the_shard_changes_nothing(owner: str, epoch: int) -> None:
    driven = Driven()
    assert driven.open("new", slots=1, owner=owner, epoch=epoch).reason == "fenced"
    assert driven.ask(Resize, 9, owner=owner, epoch=epoch).reason == "fenced"
    assert driven.ask(Close, owner=owner, epoch=epoch).reason == "fenced"
    driven.gate.begin("l", KEY, 0.0)


def test_an_older_claim_takes_nothing_from_a_newer_one() -> None:
    driven = Driven()
    driven.claim("old", 4)
    assert driven.open("new", slots=1).state is not None


def test_a_lease_that_is_not_known_is_said_to_be() -> None:
    driven = Driven()
    done = driven.gate.request("s", Close(9, 3, 5, "never"), 0.0)
    assert done == Done(9, "never", None, "unknown")


def test_runs_of_a_silent_owner_are_ended_counted_from_when_the_answered_beat_was_sent() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    driven.gate.answered("s", Answer(2, {3: 5}, {"l": 60.0}), 4.0, 9.0)
    assert driven.gate.deadline() == 4.0 + SILENT_SECONDS
    assert driven.gate.abandoned(18.9) == []
    assert driven.refused(now=19.0) == "closed"
    assert driven.gate.abandoned(19.0) == ["l"]


def test_a_claim_alone_gives_what_runs_no_more_time() -> None:
    """It may have been on its way while the successor's wait ran out."""
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    driven.claim("successor", 6, now=14.0)
    assert driven.gate.abandoned(SILENT_SECONDS) == ["l"]


def test_a_successors_answer_lets_what_runs_go_on() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    driven.claim("successor", 6, now=4.0)
    driven.gate.answered("s", Answer(2, {3: 5}, {}), 6.0, 6.0)  # the old one's counts no more
    assert driven.gate.deadline() == SILENT_SECONDS
    driven.gate.answered("successor", Answer(3, {3: 6}, {}), 5.0, 6.0)
    assert driven.gate.deadline() == 5.0 + SILENT_SECONDS


def test_nothing_begins_for_an_owner_that_has_answered_no_beat() -> None:
    gate = Gate(lambda owner, done: None)
    gate.request("s", Claim(1, 3, 1), 0.0)
    gate.request("s", Open(2, 3, 1, "l", KEY, "on-demand", "h", 128, 1, 10.0), 0.0)
    with pytest.raises(NotStarted):
        gate.begin("l", KEY, 0.0)


def test_a_beat_says_what_was_done_of_this_stream() -> None:
    driven = Driven()
    assert driven.gate.beat("s", FACTS, 0.0).seen == driven.number
    driven.gate.connected("s")
    assert driven.gate.beat("s", FACTS, 0.0).seen == 0
    beat = driven.gate.beat("other", FACTS, 0.0)
    assert (beat.epochs, beat.leases, beat.granted_mb) == ({}, (), 256)


def test_a_drain_closes_all_and_opens_nothing() -> None:
    driven = Driven()
    driven.gate.begin("l", KEY, 0.0)
    driven.gate.drain()
    assert driven.refused() == "draining"
    assert driven.open("new", slots=1).reason == "draining"
    beat = driven.gate.beat("s", FACTS, 0.0)
    assert beat.draining and [state.open for state in beat.leases] == [False]
