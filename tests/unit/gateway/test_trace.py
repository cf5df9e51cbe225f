import re

import pytest

from lambent.gateway.trace import answered, trace_of

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
