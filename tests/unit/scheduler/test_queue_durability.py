"""queue_durability.py: what a server's settings are worth."""

import pytest

from lambent.scheduler.queue_durability import judge


@pytest.mark.parametrize(
    ("aof", "fsync", "waitaof", "policy", "durable", "uses_waitaof"),
    [
        (True, "always", True, "noeviction", True, False),
        (True, "always", False, None, True, False),
        (True, "everysec", True, "noeviction", True, True),
        (True, "everysec", False, "noeviction", False, False),
        (False, "always", True, "noeviction", False, False),
        (None, None, True, None, True, True),
        (None, None, False, None, False, False),
        (True, "always", True, "allkeys-lru", False, False),
    ],
)
def test_judgement(
    aof: bool | None, fsync: str | None, waitaof: bool, policy: str | None, durable: bool, uses_waitaof: bool
) -> None:
    found = judge(aof=aof, fsync=fsync, waitaof=waitaof, policy=policy)
    assert (found.durable, found.waitaof) == (durable, uses_waitaof)


def test_what_is_at_risk_comes_with_what_to_change() -> None:
    assert "appendonly yes" in judge(aof=False, fsync=None, waitaof=True, policy=None).text
    assert "appendfsync always" in judge(aof=True, fsync="no", waitaof=False, policy=None).text
    assert "noeviction" in judge(aof=True, fsync="always", waitaof=True, policy="volatile-ttl").text
