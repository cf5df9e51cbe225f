"""placement.py: who gets a slot."""

import pytest

from lambent.scheduler.placement import ACCOUNT_FULL, RESERVED_FULL, Pool, refusal


@pytest.mark.parametrize(
    ("pool", "reserved", "used", "slots", "reason"),
    [
        (Pool(10, 0, 9), None, 9, 1, None),
        (Pool(10, 0, 10), None, 3, 1, ACCOUNT_FULL),
        (Pool(10, 4, 6), None, 6, 1, ACCOUNT_FULL),
        (Pool(10, 4, 5), None, 5, 2, ACCOUNT_FULL),
        (Pool(10, 4, 6), 4, 3, 1, None),
        (Pool(10, 4, 0), 4, 4, 1, RESERVED_FULL),
        (Pool(10, 0, 0), 0, 0, 1, RESERVED_FULL),
    ],
)
def test_refusals(pool: Pool, reserved: int | None, used: int, slots: int, reason: str | None) -> None:
    assert refusal(slots=slots, pool=pool, reserved=reserved, used=used) == reason


def test_reservations_over_the_limit_leave_nothing_not_less() -> None:
    assert Pool(10, 20, 0).free == 0
