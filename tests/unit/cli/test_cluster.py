"""What every role of a cluster does alike, without a cluster."""

from pathlib import Path

import pytest

from lambent.cli import cluster
from lambent.cli.client import Failed
from lambent.kernel.remote.host_client import Address
from lambent.kernel.settings import Settings
from lambent.kernel.store.memory import MemoryStore


def settings(tmp_path: Path, **given: object) -> Settings:
    return Settings.model_validate({"data_dir": tmp_path, **given})


def test_roles_without_a_redis_are_told_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="--redis-url"):
        cluster.required_redis(settings(tmp_path))
    url = "redis://127.0.0.1:1/0"
    assert cluster.required_redis(settings(tmp_path, redis_url=url)) == url


@pytest.mark.parametrize("host", ["0.0.0.0", "10.0.0.5", "::"])
def test_nothing_is_served_beyond_loopback_without_a_proof(tmp_path: Path, host: str) -> None:
    open_ = settings(tmp_path, internal_host=host)
    with pytest.raises(Failed, match="LAMBENT_CLUSTER_KEY"):
        cluster.check_host(open_, cluster.cluster_of(open_, server=True), "Leases on")
    keyed = settings(tmp_path, internal_host=host, cluster_key="a key of 16 or more")
    cluster.check_host(keyed, cluster.cluster_of(keyed, server=True), "Leases on")


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="LAMBENT_INTERNAL_TLS_CA"):
        cluster.cluster_of(settings(tmp_path, internal_tls_cert="cert.pem"), server=True)
    files = {f"internal_tls_{name}": tmp_path / name for name in ("cert", "key", "ca")}
    with pytest.raises(Failed, match="can't be used"):
        cluster.cluster_of(settings(tmp_path, **files), server=True)


@pytest.mark.parametrize("address", [Address("127.0.0.1", 7), Address("::1", 8)])
def test_an_address_is_read_as_it_was_written(address: Address) -> None:
    assert cluster.parsed(cluster.address_text(*address)) == address


async def test_a_secret_is_the_same_for_all_and_one_of_its_purpose() -> None:
    store = MemoryStore()
    first = await cluster.shared_secret(store, "code urls")
    assert len(first) == 32
    assert await cluster.shared_secret(store, "code urls") == first
    assert await cluster.shared_secret(store, "s3 webhook") != first
