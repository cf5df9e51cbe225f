"""What the sandbox driver asks of the network beside it, so that namespaces and processes (driver, spawner)
know no packet filter, and relays, DNS and egress know no cgroup.

Order per environment: the spawner makes the network namespace, brings `lo` up and binds `sockets()` in it; the
driver hands them to `attach`, which must end before the runtime process starts; `Attachment.close` undoes it.
"""

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lambent.kernel.models import Enforcement


@dataclass(frozen=True, slots=True)
class SocketSpec:
    """A socket to bind inside each new network namespace, and to listen on if it is SOCK_STREAM.

    `kind` is the network's own name for it ("relay", "dns", ...). `family`: AF_INET or AF_INET6; `type`:
    SOCK_STREAM or SOCK_DGRAM; `host` a literal address, which is first added to `lo` when it is not one of
    127.0.0.0/8 or ::1.
    """

    kind: str
    family: int
    type: int
    host: str
    port: int


class Attachment(Protocol):
    """The network of one environment."""

    async def close(self) -> None:
        """Closes the sockets it owns and undoes what `attach` made. Idempotent."""


class Network(Protocol):
    """What serves the environments' networks."""

    async def open(self) -> None:
        """Packet filter and forwarding; reaps an earlier run's. Raises LambdaError with advice."""

    def sockets(self) -> Sequence[SocketSpec]:
        """What to bind in each new namespace; asked at each start, after `open`."""

    def etc_files(self) -> Mapping[str, str]:
        """Texts of files of /etc by name: "resolv.conf", "hosts"."""

    async def attach(
        self, environment_id: str, netns_fd: int, userns_path: str | None, sockets: Sequence[socket.socket]
    ) -> Attachment:
        """Serves the relays and makes egress.

        `netns_fd` stays the driver's (valid during the call; duplicate it to keep it). `userns_path`: the user
        namespace that owns the network namespace (/proc/PID/ns/user), None when that is the executor's own.
        `sockets` in the order of `sockets()`, non-blocking, owned by the network from the call on, even if it
        fails.
        """

    async def close(self) -> None:
        """Undoes what was changed on the host."""

    def enforcement(self) -> Sequence[Enforcement]:
        """What it enforces here; complete after `open`."""
