"""How log groups share a budget: small ones stay whole, large ones pay."""

import pytest

from lambent.kernel.store.log_budget import fair_share


@pytest.mark.parametrize(
    ("sizes", "total", "group", "share"),
    [
        ([], 100, 50, 50),
        ([10, 20, 30], 100, 50, 50),
        ([10, 20, 90], 100, 50, 50),
        ([10, 200, 200], 110, 1000, 50),
        ([100, 100, 100, 100], 100, 1000, 25),
        ([0, 5, 1000], 10, 1000, 5),
    ],
)
def test_the_share_fits_the_budget(sizes: list[int], total: int, group: int, share: int) -> None:
    assert fair_share(sizes, total=total, group=group) == share
    assert sum(min(size, share) for size in sizes) <= total
