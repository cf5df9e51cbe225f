"""lineage.py: how often each function was called in a chain, as the trace header carries it."""

import pytest

from lambent.kernel.lineage import MOST, begun, followed, looped

ONE, TWO = (f"arn:aws:lambda:us-east-1:000000000000:function:{name}" for name in ("one", "two"))
TRACE = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def test_each_call_of_a_function_is_counted() -> None:
    once = followed(TRACE, ONE)
    assert once.startswith(f"{TRACE};Lineage=") and once.endswith(":1")
    assert followed(once, ONE).endswith(":2")
    assert followed("", ONE).startswith("Lineage=")


def test_functions_of_one_chain_are_counted_apart() -> None:
    trace = followed(followed(followed(TRACE, ONE), TWO), ONE)
    assert trace.count("Lineage=") == 1
    marks = dict(entry.split(":") for entry in trace.partition("Lineage=")[2].split("|"))
    assert sorted(marks.values()) == ["1", "2"]


def test_a_chain_begins_anew_without_its_counts() -> None:
    assert begun(followed(followed(TRACE, ONE), TWO)) == TRACE
    assert begun(TRACE) == TRACE


def test_the_seventeenth_call_is_a_loop() -> None:
    trace = TRACE
    for _ in range(MOST):
        assert not looped(trace, ONE)
        trace = followed(trace, ONE)
    assert looped(trace, ONE)
    assert not looped(trace, TWO)


@pytest.mark.parametrize(
    "lineage", ["", "nonsense", "|:|", "a87bd80c:x", "a87bd80c:-1|b:\u00b2", "a87bd80c:" + "9" * 5000]
)
def test_what_is_no_lineage_counts_nothing(lineage: str) -> None:
    trace = f"{TRACE};Lineage={lineage}"
    assert not looped(trace, ONE)
    assert followed(trace, ONE).endswith(":1")


def test_the_header_stays_bounded() -> None:
    trace = TRACE
    for number in range(100):
        trace = followed(trace, f"{ONE}{number}")
    assert len(trace) < 300
    assert trace.endswith(":1")
