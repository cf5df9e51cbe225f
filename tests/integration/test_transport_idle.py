# mypy: allow-untyped-calls
"""A consumer that waits costs nothing: commands are counted, for time would be a matter of the machine."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from kombu.entity import Queue
from redis_groups import RedisNodes, until
from support import RedisServer

from lambent.scheduler.transport.streams import close_channel, connect, open_channel

SECONDS = 3.0


def commands(servers: list[RedisServer]) -> int:
    """How many commands of clients the servers have run, but for those of this question."""
    total = 0
    for server in servers:
        with server.client() as client:
            rows = client.info("commandstats")
        ours = ("info", "client|setinfo", "hello", "replconf", "ping", "cluster", "auth", "select")
        total += sum(
            row["calls"] for name, row in rows.items() if not name.removeprefix("cmdstat_").startswith(ours)
        )
    return total


def idle(servers: list[RedisServer], wait: Callable[[], None]) -> tuple[int, float]:
    """(commands, seconds of this process's CPU) of a wait in a thread, once it has settled."""
    waiting = threading.Thread(target=wait)
    waiting.start()
    settled = [commands(servers), -1]

    def still() -> bool:
        time.sleep(0.2)  # what it sends after this counts
        settled.append(commands(servers))
        return settled[-1] == settled[-2]

    until("the wait", still)
    assert waiting.is_alive(), "it never stopped sending"
    spent = time.process_time()
    waiting.join(60)
    return commands(servers) - settled[-1], time.process_time() - spent


@pytest.fixture(params=["server", "cluster"])
def place(request: pytest.FixtureRequest) -> tuple[str, list[RedisServer]]:
    if request.param == "server":
        return request.getfixturevalue("redis_url"), [request.getfixturevalue("redis_server")]
    nodes: RedisNodes = request.getfixturevalue("redis_nodes")
    return request.getfixturevalue("redis_nodes_url"), nodes.nodes


def test_a_blocked_wait_sends_nothing(place: tuple[str, list[RedisServer]]) -> None:
    url, servers = place
    channel = open_channel(url, shards=8, claim_idle=3600.0)
    assert channel.get_many(lambda queue: 1, 1) == []
    sent, cpu = idle(servers, lambda: channel.wait(SECONDS, unless=lambda: False))
    assert sent <= 2
    assert cpu < SECONDS / 2
    close_channel(channel)


@pytest.mark.parametrize("channels", [1, 3])
def test_kombus_drain_sends_nothing_while_nothing_comes(
    place: tuple[str, list[RedisServer]], channels: int
) -> None:
    url, servers = place
    with connect(url, shards=8, claim_idle=3600.0) as made:
        connection: Any = made
        for number in range(channels):
            channel = connection.channel()
            connection.Consumer(Queue(f"q{number}"), channel=channel).consume()

        def drain() -> None:
            with pytest.raises(TimeoutError):
                connection.drain_events(timeout=SECONDS)

        sent, cpu = idle(servers, drain)
    assert sent <= 3 * 8  # the end of the wait asks each shard and channel once more
    assert cpu < SECONDS / 2


def test_queues_without_room_cost_nothing_however_many_wait(place: tuple[str, list[RedisServer]]) -> None:
    url, servers = place
    channel = open_channel(url, shards=8, claim_idle=3600.0)
    channel.put_calls([(f"q{number}", [b"{}", b"[0,0,0,0,0,0]", 0, ""]) for number in range(200)])
    assert channel.get_many(lambda queue: 0, 1) == []
    channel.wait(0, unless=lambda: False)
    sent, cpu = idle(servers, lambda: channel.wait(SECONDS, unless=lambda: False))
    assert sent <= 2
    assert cpu < SECONDS / 2
    close_channel(channel)
