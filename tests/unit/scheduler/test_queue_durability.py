"""queue_durability.py: what a server's settings are worth."""

import pytest

from lambent.scheduler.queue_durability import judge, least, with_failover


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


def test_several_servers_are_as_durable_as_the_least() -> None:
    good = judge(aof=True, fsync="always", waitaof=True, policy=None)
    waits = judge(aof=True, fsync="everysec", waitaof=True, policy=None)
    bad = judge(aof=False, fsync=None, waitaof=True, policy=None)
    assert least([good, good]) == good
    assert (least([good, waits]).durable, least([good, waits]).waitaof) == (True, True)
    assert not least([good, bad, good]).durable


def test_a_failover_loses_what_no_replica_confirmed() -> None:
    found = judge(aof=True, fsync="always", waitaof=True, policy=None)
    assert with_failover(found, fails_over=False, replicas=0) == found
    assert with_failover(found, fails_over=True, replicas=1).durable
    risky = with_failover(found, fails_over=True, replicas=0)
    assert not risky.durable and "LAMBENT_REDIS_REPLICAS=1" in risky.text
