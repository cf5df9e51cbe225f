"""Everything at once, drawn from a seed: the short form of `make simulate`."""

import pytest

from simulation.cluster import Shape
from simulation.run import Outcome, simulate


def run(seed: int, invocations: int = 5000) -> Outcome:
    shape = Shape(gateways=4, schedulers=3, executors=6, functions=50, rate=60.0, limit=1000, events=0.3)
    return simulate(seed, invocations=invocations, executors=6, rate=60.0, fault_every=2.0, shape=shape)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_limits_and_updates_hold_through_faults_and_all_recovers(seed: int) -> None:
    outcome = run(seed)
    assert outcome.problems == []
    assert outcome.cluster.results["ok"] > 500  # a fault every two seconds leaves no scheduler at times
    queue = outcome.cluster.queue
    assert len(queue.accepted) > 1000
    assert queue.left == 0 and queue.lost() == set()
    assert sum(outcome.cluster.faults.values()) > 20


def test_a_seed_gives_the_same_run_twice() -> None:
    one, other = run(4, 1500), run(4, 1500)
    assert one.cluster.results == other.cluster.results
    assert one.cluster.queue.ran == other.cluster.queue.ran
    assert one.cluster.faults == other.cluster.faults
    assert (one.cluster.network.sent, one.virtual) == (other.cluster.network.sent, other.virtual)


def test_without_faults_hardly_a_refusal_is_early() -> None:
    shape = Shape(
        gateways=4, schedulers=2, executors=4, functions=3, reserved={0: 2, 1: 3}, rate=20.0, seconds=0.15
    )
    outcome = simulate(1, invocations=3000, executors=4, rate=20.0, fault_every=0.0, shape=shape)
    assert outcome.problems == []
    assert set(outcome.cluster.results) == {"ok", "ReservedFunctionConcurrentInvocationLimitExceeded"}
    # A slot that is on its way from one gateway to another is in nobody's use.
    assert (
        outcome.cluster.truth.early
        <= 3
        < outcome.cluster.results["ReservedFunctionConcurrentInvocationLimitExceeded"]
    )
