"""Which URLs need a relay, and what relays need inside."""

import socket
from ipaddress import ip_address

import pytest

from lambent.executor.drivers.base import Reachable
from lambent.executor.drivers.sandbox.egress_links import Address
from lambent.executor.drivers.sandbox.reachable import Reachables, reachable_from_urls
from lambent.kernel.errors import LambdaError

NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "box": ["10.0.0.5"],
    "example.com": ["203.0.113.9"],
}


def resolve(name: str) -> list[str]:
    return NAMES.get(name, [])


def own() -> list[Address]:
    return [ip_address("127.0.0.1"), ip_address("10.0.0.5"), ip_address("2001:db8::5")]


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:8333", ("127.0.0.1", 8333)),
        ("http://127.0.0.7", ("127.0.0.7", 80)),
        ("https://LocalHost/path", ("localhost", 443)),
        ("redis://10.0.0.5", ("10.0.0.5", 6379)),
        ("amqps://user:word@box/", ("box", 5671)),
        ("tcp://[2001:db8::5]:99", ("2001:db8::5", 99)),
        ("http://0.0.0.0:9000", ("0.0.0.0", 9000)),
    ],
)
def test_an_endpoint_on_this_host_needs_a_relay(url: str, expected: tuple[str, int]) -> None:
    assert reachable_from_urls([url], resolve=resolve, own=own) == (Reachable(*expected, expected),)


@pytest.mark.parametrize("url", ["http://203.0.113.9", "https://example.com", "http://nowhere.test", "http://"])
def test_an_endpoint_elsewhere_needs_none(url: str) -> None:
    assert reachable_from_urls([url], resolve=resolve, own=own) == ()


def test_a_url_is_relayed_once() -> None:
    urls = ["http://127.0.0.1:8333/a", "http://127.0.0.1:8333/b"]
    assert len(reachable_from_urls(urls, resolve=resolve, own=own)) == 1


def test_a_scheme_without_default_port_wants_one() -> None:
    with pytest.raises(LambdaError, match="tcp://127.0.0.1 has no port"):
        reachable_from_urls(["tcp://127.0.0.1"], resolve=resolve, own=own)


def test_the_runtime_apis_port_is_refused() -> None:
    with pytest.raises(LambdaError, match="localhost:9001 .* belongs to the Runtime API"):
        Reachables([Reachable("localhost", 9001, ("localhost", 9001))])


def test_two_services_at_one_address_are_refused_and_one_under_two_names_is_not() -> None:
    one = Reachable("127.0.0.1", 8333, ("127.0.0.1", 8333))
    Reachables([one, Reachable("localhost", 8333, ("localhost", 8333))])
    with pytest.raises(LambdaError, match="can't be made reachable twice"):
        Reachables([one, Reachable("localhost", 8333, "/run/other.sock")])


def test_names_listen_on_loopback_and_stand_in_the_hosts_file() -> None:
    made = Reachables([Reachable("box", 80, ("box", 80)), Reachable("10.0.0.5", 81, "/run/x")], ipv6=True)
    assert [(each.family, each.host, each.port) for each in made.sockets()] == [
        (socket.AF_INET, "127.0.0.1", 80),
        (socket.AF_INET6, "::1", 80),
        (socket.AF_INET, "10.0.0.5", 81),
    ]
    assert made.hosts_file().splitlines()[0] == "127.0.0.1\tlocalhost sandbox.localdomain sandbox box"
    assert made.target("10.0.0.5", 81) == "/run/x"


def test_without_ipv6_nothing_listens_on_it() -> None:
    made = Reachables([Reachable("localhost", 80, ("localhost", 80))], ipv6=False)
    assert [each.host for each in made.sockets()] == ["127.0.0.1"]


def test_link_local_endpoints_are_refused() -> None:
    with pytest.raises(LambdaError, match="link-local"):
        Reachables([Reachable("169.254.169.254", 80, ("169.254.169.254", 80))])
