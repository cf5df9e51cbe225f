"""The tests' own Redis server does what fault tests build on: what it acknowledged survives `kill -9`."""

import redis
from support import RedisServer


def test_acknowledged_data_survives_kill_and_restart(own_redis: RedisServer) -> None:
    with own_redis.client() as client:
        client.set("kept", "yes")
    own_redis.restart()
    with own_redis.client() as client:
        assert client.get("kept") == b"yes"


def test_each_test_gets_the_shared_server_empty(redis_url: str) -> None:
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        assert client.config_get("appendfsync") == {"appendfsync": "always"}
