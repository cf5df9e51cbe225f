"""Run as a program of its own: closes routes inside an environment's network namespace that belongs to a user
namespace, because only a process without other threads may enter a user namespace, and the executor has
threads.

Arguments: the netns's path, the user namespace's path or "-", then networks to make unreachable.
It imports only the standard library and its neighbour `egress_links`, so that it starts in about 20 ms.
"""

import errno
import os
import sys
from ipaddress import ip_network

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import egress_links as kernel  # type: ignore[import-not-found]  # noqa: E402


def main(netns: str, userns: str, *networks: str) -> None:
    """Raises OSError when a route can't be closed; one that is closed already is fine."""
    # Both are opened first: seen from the user namespace, the paths may be out of reach.
    network = os.open(netns, os.O_RDONLY | os.O_CLOEXEC)
    if userns != "-":
        owner = os.open(userns, os.O_RDONLY | os.O_CLOEXEC)
        kernel.enter(owner, kernel.CLONE_NEWUSER)
    kernel.enter(network, kernel.CLONE_NEWNET)
    with kernel.Links() as links:
        for each in networks:
            links.do(kernel.unreachable(ip_network(each)), ignore=(errno.EEXIST,))


if __name__ == "__main__":
    main(*sys.argv[1:])
