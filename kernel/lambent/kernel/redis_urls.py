"""URLs of a Redis or Valkey of one's own, as the settings take them and the stores use them: one server, or the
sentinels that know the master."""

import re
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit

# `redis+streams://` is the form of the event queue's transport; the stores take the plain one.
_STREAMS_FORMS = (
    (re.compile(r"^(redis\+)?streams\+(socket|unix)://"), "unix://"),
    (re.compile(r"^(redis\+)?streams\+ssl://"), "rediss://"),
    (re.compile(r"^(redis\+)?streams://"), "redis://"),
)
_GROUP = re.compile(r"^(?:(?:redis\+)?streams\+)?(?:(rediss?)\+)?(cluster|sentinel)(\+ssl)?://")
_SENTINELS = "redis+sentinel://HOST:PORT,HOST:PORT/MASTER/0"


@dataclass(frozen=True, slots=True)
class Sentinels:
    """`scheme`: redis or rediss; `login`: "USER:PASSWORD@" or ""; `nodes`: (host, port) of each; `rest`: the
    database and what redis-py's URL may have behind it."""

    scheme: str
    login: str
    nodes: tuple[tuple[str, int], ...]
    master: str
    rest: str

    def url(self) -> str:
        """The one form of many."""
        nodes = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.nodes)
        return f"{self.scheme}+sentinel://{self.login}{nodes}/{self.master}{self.rest}"

    def server(self) -> str:
        """redis-py's URL of the master, with any host."""
        return f"{self.scheme}://{self.login}host{self.rest}"


def plain_redis_url(url: str) -> str:
    """redis://, rediss:// or unix://, or redis+sentinel://, of any form that the event queue takes as well
    (`redis+streams://...`). Raises ValueError for anything else; the URL, which may hold a password, is not in
    its message."""
    group = _GROUP.match(url)
    if group is not None and group[2] == "cluster":
        raise ValueError(
            "a Redis Cluster cannot keep functions and logs yet, only events: name one server, as "
            f"redis://HOST:PORT/0, or sentinels, as {_SENTINELS}"
        )
    if group is not None:
        return _sentinels(url, group).url()
    for form, plain in _STREAMS_FORMS:
        url = form.sub(plain, url, count=1)
    wrong = ValueError(
        "no URL of a Redis or Valkey, as redis://HOST:PORT/0, rediss://..., unix:///PATH or " + _SENTINELS
    )
    try:
        parts = urlsplit(url)
        whole = bool(parts.path if parts.scheme == "unix" else parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none; its message may hold the password
        raise wrong from None
    if parts.scheme not in ("redis", "rediss", "unix") or not whole:
        raise wrong
    if parts.scheme != "unix" and not re.fullmatch(r"(/\d*)?", parts.path):
        raise ValueError("its path must be the number of a database, as in redis://HOST:PORT/0")
    return url


def sentinels_of(url: str) -> Sentinels | None:
    """What a URL of sentinels says; None for one of a server. Raises ValueError."""
    group = _GROUP.match(url)
    return None if group is None else _sentinels(url, group)


def _sentinels(url: str, group: re.Match[str]) -> Sentinels:
    """Of `sentinel://HOST:PORT,HOST:PORT/MASTER/0` or, as kombu and Celery have it,
    `sentinel://HOST:PORT;sentinel:// HOST:PORT/0?master_name=MASTER`."""
    login, nodes, path, query = "", list[tuple[str, int]](), "", ""
    for part in url.split(";"):
        before, _, behind = _GROUP.sub("", part).partition("?")
        authority, slash, names = before.partition("/")
        credentials, at, addresses = authority.rpartition("@")
        login = login or credentials + at
        nodes += [_node(address) for address in addresses.split(",") if address]
        path, query = names if slash else path, behind or query
    fields = dict(parse_qsl(query))
    named = [name for name in path.split("/") if name]
    database = named.pop() if named and named[-1].isdigit() else "0"
    named += [fields.pop("master_name")] if "master_name" in fields else []
    if len(named) != 1 or not nodes:
        raise ValueError(f"sentinels and their master are named as in {_SENTINELS}")
    scheme = "rediss" if group[1] == "rediss" or group[3] else "redis"
    rest = f"/{database}" + (f"?{urlencode(fields)}" if fields else "")
    return Sentinels(scheme, login, tuple(nodes), named[0], rest)


def _node(address: str) -> tuple[str, int]:
    match = re.fullmatch(r"(\[[0-9a-fA-F:.]+\]|[^:\[\]]+)(?::(\d+))?", address)
    if match is None or not 0 < int(match[2] or 26379) < 65536:
        raise ValueError(f"each sentinel is HOST:PORT, as in {_SENTINELS}")
    return match[1].strip("[]"), int(match[2] or 26379)
