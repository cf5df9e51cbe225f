"""System calls and powers that a function may not have, as attempts: what `test_isolation_syscalls` tries in a
function, and `test_isolation_runtimes` in functions of other runtimes."""

import socket
from collections.abc import Sequence
from typing import Any

import isolation_calls

_SOCKETS: dict[str, tuple[int, int, int]] = {
    "raw IPv4": (socket.AF_INET, socket.SOCK_RAW, 1),
    "raw IPv6": (socket.AF_INET6, socket.SOCK_RAW, 58),
    "packet": (17, socket.SOCK_RAW, 0),
    "packet of internet": (socket.AF_INET, 10, 0),
    "kernel crypto": (38, socket.SOCK_SEQPACKET, 0),
    "virtual machine": (40, socket.SOCK_STREAM, 0),
    "key management": (15, socket.SOCK_RAW, 2),
    "XDP": (44, socket.SOCK_RAW, 0),
    "netlink audit": (16, socket.SOCK_RAW, 9),
    "netlink netfilter": (16, socket.SOCK_RAW, 12),
    "netlink devices": (16, socket.SOCK_RAW, 15),
    "netlink generic": (16, socket.SOCK_RAW, 16),
    "netlink sockets": (16, socket.SOCK_RAW, 4),
    "bluetooth": (31, socket.SOCK_RAW, 1),
    "CAN": (29, socket.SOCK_RAW, 1),
}
_IDENTITIES: Sequence[str] = (
    *("uid 0", "gid 0", "another uid", "groups", "capabilities", "more descriptors", "real-time"),
    *("niceness", "oom score", "chown", "device"),
)
NOT_THERE = ("ENOSYS", "EAFNOSUPPORT", "EPROTONOSUPPORT", "ESOCKTNOSUPPORT")

CALLS: dict[str, dict[str, Any]] = {
    f"call {name}": {"do": "system_call", "name": name} for name in isolation_calls.names()
}
SOCKETS: dict[str, dict[str, Any]] = {
    f"socket {name}": {"do": "open_socket", "family": int(family), "kind": int(kind), "protocol": protocol}
    for name, (family, kind, protocol) in _SOCKETS.items()
}
OTHERS: dict[str, dict[str, Any]] = {f"take {name}": {"do": "become", "what": name} for name in _IDENTITIES}
OTHERS |= {"trace a sibling": {"do": "trace_sibling"}}
ATTEMPTS = {**CALLS, **SOCKETS, **OTHERS}
