"""The short form of `make cluster-test`: every role is killed once under load, and everything is counted."""

from pathlib import Path

import pytest
from cluster import run

pytestmark = [pytest.mark.timeout(400)]


def test_limits_hold_and_nothing_is_lost_while_every_role_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    verdict = run(tmp_path, 45, said.append)
    assert not verdict.problems, f"{verdict}\n" + "\n".join(said)
