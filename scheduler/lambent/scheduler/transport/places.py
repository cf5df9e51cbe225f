"""What an URL names: one server, the sentinels that know a master, or a cluster's nodes.

| form | also as |
|---|---|
| `redis+streams://HOST:PORT/DB` | `streams://`, `redis://`; TLS: `streams+ssl://`, `rediss://` |
| `redis+streams+socket:///PATH` | `streams+socket://`, `unix://` |
| `redis+streams+sentinel://H1:P1,H2:P2/MASTER/DB` | `sentinel://H1:P1;sentinel://H2:P2/DB` |
| `redis+streams+cluster://H1:P1,H2:P2/` | `streams+cluster://`, `redis+cluster://` |

TLS of the last two: `…sentinel+ssl://`, `…cluster+ssl://`, `rediss+cluster://`. The master's name may be the
option or the query parameter `master_name` too. All else in the query is redis-py's.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal
from urllib.parse import parse_qsl, urlencode

Node = tuple[str, int]  # host, port

_FORMS = (
    (re.compile(r"^(redis\+?)?streams\+(socket|unix)://"), "unix://"),
    (re.compile(r"^(redis\+?)?streams\+ssl://"), "rediss://"),
    (re.compile(r"^(redis\+?)?streams://"), "redis://"),
    (re.compile(r"^socket://"), "unix://"),
    (re.compile(r"^ssl://"), "rediss://"),
)
_GROUP = re.compile(r"^(?:(?:redis\+)?streams\+)?(?:(rediss?)\+)?(cluster|sentinel)(\+ssl)?://")
_PASSWORD = re.compile(r"(://[^:@/;,]*):[^@;]*@")
_QUERY_PASSWORD = re.compile(r"([?&]password=)[^&;]*")
_PORTS = {"cluster": 6379, "sentinel": 26379}


@dataclass(frozen=True, slots=True)
class Place:
    """`nodes`: of a group, where to begin. `head` and `tail`: what stands before and behind an address in the
    URL of one of its servers; of a single server `head` is the whole."""

    kind: Literal["server", "sentinel", "cluster"]
    head: str
    nodes: tuple[Node, ...] = ()
    tail: str = ""
    master: str = ""

    def url(self, node: Node | None = None) -> str:
        """redis-py's URL of the server, or of one of the group's."""
        return self.head if node is None else f"{self.head}{_address(node)}{self.tail}"

    def for_kombu(self) -> str:
        """The URL in the form that kombu's Connection takes as this transport's."""
        if self.kind == "server":
            scheme, _, rest = self.head.partition("://")
            ours = {"redis": "streams", "rediss": "streams+ssl", "unix": "streams+socket"}.get(scheme, scheme)
            return f"{ours}://{rest}"
        scheme, _, credentials = self.head.partition("://")
        ssl = "+ssl" if scheme == "rediss" else ""
        addresses = ",".join(_address(node) for node in self.nodes)
        master = f"/{self.master}" if self.master else ""
        return f"streams+{self.kind}{ssl}://{credentials}{addresses}{master}{self.tail}"


def parse(url: str, *, master_name: str | None = None) -> Place:
    """Raises ValueError, without the URL, which may hold a password."""
    parts = url.split(";")
    form = _GROUP.match(parts[0])
    if form is None:
        for known, instead in _FORMS:
            if known.match(url):
                return Place("server", known.sub(instead, url))
        return Place("server", url)
    kind = form[2]
    scheme = "rediss" if form[1] == "rediss" or form[3] else "redis"
    credentials, path, query, nodes = "", "", "", list[Node]()
    for part in parts:
        match = re.match(r"([^/?]*)(/[^?]*)?(?:\?(.*))?$", _GROUP.sub("", part))
        if match is None:
            raise ValueError("no URL of a cluster or of sentinels")
        login, at, hosts = match[1].rpartition("@")
        credentials = credentials or login + at
        path, query = match[2] or path, match[3] or query
        nodes += [_node(host, _PORTS[kind]) for host in hosts.split(",") if host]
    names = [name for name in path.split("/") if name]
    database = names.pop() if names and names[-1].isdigit() else "0"
    fields = dict(parse_qsl(query))
    master = fields.pop("master_name", None) or (names[0] if names else "") or master_name or ""
    if not nodes or len(names) > (kind == "sentinel"):
        raise ValueError("the URL of a cluster or of sentinels is KIND://HOST:PORT,HOST:PORT/...")
    tail = f"/{database}" + (f"?{urlencode(fields)}" if fields else "")
    if kind == "cluster":
        if database != "0":
            raise ValueError("a cluster has no database but 0")
        return Place("cluster", f"{scheme}://{credentials}", tuple(nodes), tail)
    if not master:
        raise ValueError("a URL of sentinels needs the master's name: sentinel://HOST:PORT/NAME/0")
    return Place("sentinel", f"{scheme}://{credentials}", tuple(nodes), tail, master)


def is_group(url: str) -> bool:
    """Whether the URL names sentinels or a cluster."""
    return bool(_GROUP.match(url))


def joined(urls: Sequence[str]) -> str:
    """One URL of those that kombu has split at ";"."""
    return ";".join(urls)


def without_password(url: str, mask: str = "**") -> str:
    shown = _PASSWORD.sub(rf"\1:{mask}@", url)
    return _QUERY_PASSWORD.sub(rf"\g<1>{mask}", shown)


def _node(text: str, default: int) -> Node:
    match = re.fullmatch(r"(\[[^\]]+\]|[^:\[\]]+)(?::(\d+))?", text)
    if match is None or int(match[2] or default) > 65535:
        raise ValueError("a node must be HOST:PORT")
    return match[1].strip("[]"), int(match[2] or default)


def _address(node: Node) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
