import re

import pytest

from lambent.gateway.trace import Sampler, answered, trace_of

ROOT = "1-67ae8b2c-0123456789abcdef01234567"


def test_a_new_one_is_not_sampled() -> None:
    made = trace_of(None)
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", made)
    assert made != trace_of(None)
    assert re.fullmatch(r"root=1-[0-9a-f]{8}-[0-9a-f]{24};sampled=0", answered(made))


@pytest.mark.parametrize(
    ("given", "answer"),
    [
        (f"Root={ROOT}", f"root={ROOT};sampled=0"),
        (f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1", f"root={ROOT};sampled=1"),
        (f"Sampled=?; Root={ROOT}", f"root={ROOT};sampled=0"),
        (
            f"Root={ROOT};Sampled=1;Lineage=a87bd80c:1|68fd508a:5",
            f"root={ROOT};sampled=1;lineage=a87bd80c:1|68fd508a:5",
        ),
    ],
)
def test_the_callers_is_passed_on_and_its_root_is_answered(given: str, answer: str) -> None:
    assert trace_of(given) == given
    assert answered(given) == answer


@pytest.mark.parametrize(
    "given", ["", "nonsense", "Root=", "Root=1-2-3;Sampled=1", f"Self={ROOT}", f"NoRoot={ROOT}"]
)
def test_one_without_a_trace_is_as_none(given: str) -> None:
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24};Parent=[0-9a-f]{16};Sampled=0", trace_of(given))
    assert ROOT not in trace_of(given)


def test_of_active_tracing_the_first_of_a_second_is_sampled_and_some_of_the_rest() -> None:
    now, chance = [10.2], [0.9]
    sampler = Sampler(lambda: now[0], lambda: chance[0])

    def sampled(function: str = "f", given: str | None = None) -> bool:
        return "Sampled=1" in sampler.decided(function, given, trace_of(given))

    assert [sampled(), sampled(), sampled("g"), sampled("g")] == [True, False, True, False]
    chance[0] = 0.04
    assert sampled()
    now[0], chance[0] = 11.0, 0.9
    assert [sampled(), sampled()] == [True, False]


@pytest.mark.parametrize("decision", [0, 1])
def test_the_callers_decision_stands(decision: int) -> None:
    given = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled={decision}"
    assert Sampler().decided("f", given, trace_of(given)) == given


def test_a_trace_of_a_caller_that_left_it_open_is_kept() -> None:
    given = f"Root={ROOT};Parent=53995c3f42cd8ad8;Lineage=a87bd80c:1"
    decided = Sampler().decided("f", given, trace_of(given))
    assert decided == f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1;Lineage=a87bd80c:1"
