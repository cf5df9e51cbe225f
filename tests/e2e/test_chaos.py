"""The short form of `make chaos`: a few faults in each place, and every accepted event runs all the same."""

import os

import chaos
import pytest
from support import require

SECONDS = 12.0


@pytest.mark.parametrize("place", sorted(chaos.PLACES))
def test_an_accepted_event_is_never_lost(place: str) -> None:
    require("root", place != "full disk" or os.geteuid() == 0, "root alone may mount a small filesystem")
    result = chaos.run(place, SECONDS)
    print(f"{place}: {result}")
    assert result.lost == [], f"{result}"
    assert result.dead_letters > 0
    assert result.accepted > 50 and sum(result.faults.values()) > 2, f"nothing was tried: {result}"
