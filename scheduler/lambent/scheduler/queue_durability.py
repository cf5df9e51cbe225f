"""What a Redis server's reply to a write is worth, asked of the server itself, because "accepted" must not mean
more to us than it does to its disk."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

Run = Callable[[Sequence[tuple[Any, ...]]], list[Any]]


@dataclass(frozen=True, slots=True)
class Durability:
    """`durable`: a confirmed event survives a kill of the server and the loss of power; `waitaof`: only if
    each write is followed by WAITAOF; `text` says it to a person, with what to change."""

    durable: bool
    waitaof: bool
    text: str


def probe(run: Run) -> Durability:
    """Asks the server. `run` sends commands and returns replies, error replies as exceptions."""
    persistence, appendfsync, policy, command = run(
        [
            ("INFO", "persistence"),
            ("CONFIG", "GET", "appendfsync"),
            ("CONFIG", "GET", "maxmemory-policy"),
            ("COMMAND", "INFO", "WAITAOF"),
        ]
    )
    aof = None if isinstance(persistence, Exception) else b"aof_enabled:1" in persistence
    fsync = _value(appendfsync)
    waitaof = not isinstance(command, Exception) and bool(command) and command[0] is not None
    return judge(aof=aof, fsync=fsync, waitaof=waitaof, policy=_value(policy))


def least(found: Sequence[Durability]) -> Durability:
    """Of several servers that hold the events together: as safe as the least safe one. Pure."""
    worst = min(found, key=lambda each: each.durable)
    return replace(worst, waitaof=any(each.waitaof for each in found))


def with_failover(found: Durability, *, fails_over: bool, replicas: int) -> Durability:
    """With what a failover does to it. `replicas`: that confirm each event. Pure."""
    if not fails_over or not found.durable:
        return found
    if replicas:
        return replace(found, text=f"{found.text.rstrip('.')}, and with {replicas} replica(s).")
    return replace(
        found,
        durable=False,
        text="at risk: a failover loses accepted events that no replica had yet. Set LAMBENT_REDIS_REPLICAS=1.",
    )


def judge(*, aof: bool | None, fsync: str | None, waitaof: bool, policy: str | None) -> Durability:
    """Pure. None: the server does not say (managed servers hide CONFIG and INFO)."""
    evicts = policy is not None and policy != "noeviction"
    warning = f" Its maxmemory-policy {policy} may delete events: set noeviction." if evicts else ""
    if aof is False:
        return Durability(
            False,
            False,
            "at risk: the server keeps no append-only file, so its crash loses accepted events. "
            "Set appendonly yes and appendfsync always." + warning,
        )
    if fsync == "always":
        return Durability(not evicts, False, "on disk before the answer (appendfsync always)." + warning)
    if waitaof:
        return Durability(not evicts, True, "on disk before the answer (WAITAOF after each batch)." + warning)
    return Durability(
        False,
        False,
        f"at risk: the server fsyncs {fsync or 'at a time it does not tell'}, so a power loss may take the "
        "last second's accepted events. Set appendfsync always, or use Redis >= 7.2 or Valkey (WAITAOF)."
        + warning,
    )


def _value(reply: Any) -> str | None:
    if isinstance(reply, Exception) or not reply:
        return None
    return str(reply[1].decode())
