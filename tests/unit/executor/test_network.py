"""What the network offers where egress is missing or not wanted; with egress, see the integration tests."""

import os
from pathlib import Path

import pytest

from lambent.executor.drivers.base import DriverConfig, Reachable
from lambent.executor.drivers.sandbox import egress_rules, egress_slirp, network
from lambent.executor.drivers.sandbox.netport import Network
from lambent.executor.drivers.sandbox.network import SandboxNetwork
from lambent.kernel.errors import LambdaError


def config(tmp_path: Path, *reachable: Reachable) -> DriverConfig:
    return DriverConfig(tmp_path, "test", 1_500_000, 16, reachable)


async def opened(made: SandboxNetwork) -> Network:
    await made.open()
    return made


async def test_without_nft_there_is_no_egress_and_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "find", lambda _: None)
    made = await opened(SandboxNetwork(config(tmp_path)))
    inner, egress = made.enforcement()
    assert inner.enforced
    assert (egress.name, egress.enforced, egress.how) == ("egress", False, "none: nft is not installed")
    assert egress.advice == "apt-get install nftables"
    assert made.etc_files()["resolv.conf"] == ""
    assert made.sockets() == []
    await made.close()


async def test_an_ordinary_user_without_slirp4netns_has_no_egress(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(egress_slirp, "find", lambda _: None)
    made = await opened(SandboxNetwork(config(tmp_path)))
    egress = made.enforcement()[1]
    assert egress.how == "none: slirp4netns is not installed"
    assert "apt-get install slirp4netns" in egress.advice
    assert made.etc_files()["resolv.conf"] == ""
    await made.close()


async def test_an_ordinary_user_gets_names_by_relay_when_the_resolver_is_on_loopback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(egress_slirp, "unavailable", lambda: None)
    stub = tmp_path / "resolv.conf"
    stub.write_text("nameserver 127.0.0.53\n")
    made = await opened(SandboxNetwork(config(tmp_path), resolv_conf=stub))
    assert made.enforcement()[1].enforced
    assert [(each.kind, each.host, each.port) for each in made.sockets()] == [("dns", "127.0.0.1", 53)] * 2
    assert made.etc_files()["resolv.conf"] == "nameserver 127.0.0.1\n"
    await made.close()


async def test_no_egress_can_be_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(egress_slirp, "unavailable", lambda: None)
    made = await opened(SandboxNetwork(config(tmp_path), egress="none"))
    assert made.enforcement()[1].how == "none, as configured"
    assert made.etc_files()["resolv.conf"] == ""
    assert made.sockets() == []
    await made.close()


async def test_a_packet_filter_that_fails_is_told_and_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*_: str, stdin: str = "") -> str:
        raise OSError("nft -j list chains: Operation not permitted")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(network, "find", lambda name: name)
    monkeypatch.setattr(egress_rules, "nft", broken)
    made = await opened(SandboxNetwork(config(tmp_path)))
    egress = made.enforcement()[1]
    assert not egress.enforced
    assert "Operation not permitted" in egress.how
    await made.close()


def test_an_endpoint_on_the_runtime_apis_port_is_refused_at_construction(tmp_path: Path) -> None:
    with pytest.raises(LambdaError, match="127.0.0.1:9001"):
        SandboxNetwork(config(tmp_path, Reachable("127.0.0.1", 9001, ("127.0.0.1", 9001))))
