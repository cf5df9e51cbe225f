"""Ranges, slots and the packet filter's text: the decisions behind egress."""

import json
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address, ip_network

import pytest

from lambent.executor.drivers.sandbox.egress_addresses import Slots, choose_range, table_name, tag
from lambent.executor.drivers.sandbox.egress_links import Address, Network
from lambent.executor.drivers.sandbox.egress_rules import read_chains, ruleset
from lambent.executor.drivers.sandbox.egress_slirp import closed_networks


def test_a_range_keeps_clear_of_every_route_and_address_of_the_host() -> None:
    taken: list[Network | Address] = [
        IPv4Network("0.0.0.0/0"),
        IPv4Network("100.64.0.0/11"),
        IPv4Address("100.127.0.1"),
    ]
    chosen = choose_range("here", taken)
    assert chosen.prefixlen == 18
    assert chosen.subnet_of(IPv4Network("100.96.0.0/11"))
    assert not chosen.overlaps(IPv4Network("100.100.0.0/16"))
    assert IPv4Address("100.127.0.1") not in chosen


def test_a_range_is_the_same_after_a_restart_and_another_one_beside_another_instance() -> None:
    first = choose_range("one", [])
    assert choose_range("one", []) == first
    assert not choose_range("one", [first]).overlaps(first)


def test_a_full_pool_leads_to_the_next_and_no_pool_to_an_error() -> None:
    shared = IPv4Network("100.64.0.0/10")
    assert choose_range("one", [shared]).subnet_of(IPv4Network("10.192.0.0/10"))
    with pytest.raises(OSError, match="overlaps a route"):
        choose_range("one", [shared, IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12")])


def test_ipv6_neighbours_do_not_matter_to_an_ipv4_range() -> None:
    assert choose_range("one", [IPv6Address("::1"), ip_network("fe80::/64")]) == choose_range("one", [])


def test_slots_are_pairs_and_the_longest_free_one_comes_next() -> None:
    slots = Slots(IPv4Network("100.64.0.0/30"))
    assert [slots.take(), slots.take()] == [0, 1]
    with pytest.raises(OSError, match="all 2 environment addresses"):
        slots.take()
    slots.give_back(1)
    slots.give_back(0)
    assert [slots.take(), slots.take()] == [1, 0]
    assert slots.pair(1) == (IPv4Address("100.64.0.2"), IPv4Address("100.64.0.3"))


def test_instances_have_tables_of_their_own() -> None:
    assert table_name("demo") == "lambent_demo"
    assert table_name("Demo") != table_name("demo")
    assert table_name("a/b") != table_name("a.b")


def test_a_links_name_fits_the_kernel() -> None:
    assert len(f"lmb{tag('a' * 100)}-8191") <= 15


def test_rules_guard_only_the_links_that_were_there() -> None:
    network = IPv4Network("100.64.0.0/18")
    assert '{ "eth0", "wlan0" } drop' in ruleset("t", "lmbx-", network, marked=True, guard=["eth0", "wlan0"])
    plain = ruleset("t", "lmbx-", network, marked=False, guard=[])
    assert "eth0" not in plain
    assert "forwarding_was_off" not in plain


def test_chains_tell_instances_marks_and_filters_that_drop() -> None:
    def chain(family: str, table: str, name: str, **more: str) -> dict[str, object]:
        return {"chain": {"family": family, "table": table, "name": name, **more}}

    listed = {
        "nftables": [
            {"metainfo": {}},
            chain("inet", "lambent_a", "forward", hook="forward", policy="accept"),
            chain("inet", "lambent_b", "forwarding_was_off"),
            chain("ip", "filter", "FORWARD", hook="forward", policy="drop"),
            chain("ip", "filter", "INPUT", hook="input", policy="drop"),
            chain("ip6", "filter", "FORWARD", hook="forward", policy="drop"),
        ]
    }
    seen = read_chains(json.dumps(listed), "lambent_a")
    assert seen.tables == {"lambent_a", "lambent_b"}
    assert seen.marked == {"lambent_b"}
    assert seen.dropping == ["ip filter FORWARD"]


def test_an_ordinary_users_environments_have_every_host_address_closed() -> None:
    host = [ip_address(text) for text in ("127.0.0.1", "::1", "10.0.0.5", "169.254.3.4", "2001:db8::1")]
    closed = closed_networks(host)
    assert "10.0.0.5/32" in closed
    assert "169.254.0.0/16" in closed
    assert not any(":" in each or each.startswith("127.") for each in closed)
