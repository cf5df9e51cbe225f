"""Who may speak: both sides prove the cluster key or have certificates, and only loopback goes without."""

import asyncio
import ssl
from collections.abc import Sequence

import pytest
import trustme
from remote_hosts import LEASE, TARGET, MemoryHost, invocation, served
from remote_peer import Peer, connected, executor

from lambent.internal.v1.host_pb2 import Challenge, Frame, Hello, Proof, Welcome
from lambent.kernel.clock import TestClock
from lambent.kernel.errors import NotStarted
from lambent.kernel.models import Response
from lambent.kernel.remote import auth, host_session, messages
from lambent.kernel.remote.auth import Access
from lambent.kernel.remote.frames import MAX_HELLO
from lambent.kernel.remote.host_client import Address, RemoteHost
from lambent.kernel.remote.host_server import HostServer

KEY, OTHER = Access(key=b"k" * 32), Access(key=b"o" * 32)


def certificates() -> tuple[Access, Access, Access]:
    """A server's and a client's of one authority, and those of a client that has none."""
    authority = trustme.CA()
    server, client, bare = (
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
    )
    server.verify_mode = ssl.CERT_REQUIRED
    authority.issue_cert("executor.internal").configure_cert(server)
    authority.issue_cert("gateway.internal").configure_cert(client)
    for context in (server, client, bare):
        authority.configure_trust(context)
    return (
        Access(tls=server),
        Access(tls=client, server_name="executor.internal"),
        Access(tls=bare, server_name="executor.internal"),
    )


async def why_not(client: RemoteHost) -> str:
    """What the client says of an executor that it does not get at."""
    with pytest.raises(NotStarted) as raised:
        await client.invoke(invocation(), LEASE).response
    assert raised.value.reason == "unreachable"
    return str(raised.value)


# ---- what is allowed at all ---------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.1", "::1", "localhost"])
def test_loopback_needs_no_proof(host: str) -> None:
    Access().check(host, "Frames on")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "executor.internal", "", "127.0.0.1.evil.org"])
def test_anything_else_needs_one_and_says_which(host: str) -> None:
    with pytest.raises(ValueError, match="cluster key.*TLS"):
        Access().check(host, "Frames on")
    KEY.check(host, "Frames on")


def test_tls_that_asks_for_no_certificate_is_no_proof() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with pytest.raises(ValueError, match="no certificate"):
        Access(tls=context).check("127.0.0.1", "Frames on")
    Access(tls=context, key=b"k" * 32).check("10.0.0.1", "Frames on")
    context.verify_mode = ssl.CERT_REQUIRED
    Access(tls=context).check("10.0.0.1", "Frames on")


def test_a_short_key_is_refused() -> None:
    with pytest.raises(ValueError, match="32 random bytes"):
        Access(key=b"secret")


def test_a_key_is_not_shown() -> None:
    assert "kkk" not in repr(KEY)


async def test_a_server_beyond_loopback_without_a_proof_does_not_start() -> None:
    server = HostServer(MemoryHost(), executor="e", access=Access(), clock=TestClock())
    with pytest.raises(ValueError, match="not loopback"):
        await server.open("0.0.0.0", 0)
    await server.close()


async def test_a_client_does_not_go_beyond_loopback_without_a_proof() -> None:
    client = RemoteHost(LEASE.executor, Address("192.0.2.1", 9), access=Access(), name="c", clock=TestClock())
    assert "not loopback" in await why_not(client)
    await client.close()


# ---- proofs -------------------------------------------------------------------------------------------


def test_a_proof_is_of_one_side_one_handshake_and_one_executor() -> None:
    nonces = (b"a" * 32, b"b" * 32)
    mac = KEY.proof("client", nonces=nonces, executor="e")
    assert KEY.proved(mac, "client", nonces=nonces, executor="e")
    assert not KEY.proved(mac, "executor", nonces=nonces, executor="e")
    assert not KEY.proved(mac, "client", nonces=(nonces[1], nonces[0]), executor="e")
    assert not KEY.proved(mac, "client", nonces=nonces, executor="f")
    assert not OTHER.proved(mac, "client", nonces=nonces, executor="e")
    assert not KEY.proved(b"", "client", nonces=nonces, executor="e")
    assert not Access().proved(mac, "client", nonces=nonces, executor="e")


async def test_both_have_the_key() -> None:
    async with served(access=KEY) as place:
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")


@pytest.mark.parametrize("theirs", [OTHER, Access()], ids=["another key", "no key"])
async def test_a_client_without_the_key_is_refused(theirs: Access) -> None:
    async with served(access=KEY, theirs=theirs) as place:
        assert "cluster key" in await why_not(place.client)
        assert place.host.runs == []


async def test_a_client_with_a_key_does_not_speak_to_an_executor_without() -> None:
    async with served(access=Access(), theirs=KEY) as place:
        assert "cluster key" in await why_not(place.client)
        assert place.host.runs == []


@pytest.mark.parametrize("mac", [b"", b"x" * 32], ids=["none", "wrong"])
async def test_the_server_refuses_a_wrong_proof_whatever_the_client_is(mac: bytes) -> None:
    async with served(access=KEY) as place, connected(place.address) as peer:
        answer = await peer.shake(KEY, mac=mac)
        assert answer.failed.code == "AccessDeniedException"
        peer.define()
        peer.write(messages.invoke_frame(1, 0, invocation(), LEASE))
        assert await peer.at_end()
        assert place.host.runs == []


@pytest.mark.parametrize("mac", [b"", b"x" * 32], ids=["none", "wrong"])
async def test_the_client_refuses_an_executors_wrong_proof_and_sends_nothing(mac: bytes) -> None:
    after: list[Frame] = []

    async def act(peer: Peer) -> None:
        await peer.welcome(KEY, mac=mac)
        after.append(await peer.read())

    async with executor(act) as address:
        client = RemoteHost(LEASE.executor, address, access=KEY, name="c", clock=TestClock())
        assert "same cluster key" in await why_not(client)
        await client.close()
    assert after == []


async def test_the_clients_own_proof_is_not_taken_back_from_the_executor() -> None:
    async def act(peer: Peer) -> None:
        hello = (await peer.read()).hello
        peer.write(Frame(challenge=Challenge(protocol=1, nonce=hello.nonce, keyed=True)))
        proof = (await peer.read_kind("proof")).proof.mac
        peer.write(Frame(welcome=Welcome(mac=proof, streams=1, targets=1)))
        await peer.at_end()

    async with executor(act) as address:
        client = RemoteHost(LEASE.executor, address, access=KEY, name="c", clock=TestClock())
        assert "same cluster key" in await why_not(client)
        await client.close()


async def test_another_executor_at_the_address_is_not_spoken_to() -> None:
    async with served(access=KEY) as place:
        client = RemoteHost("executor-2", place.address, access=KEY, name="c", clock=TestClock())
        assert "another executor" in await why_not(client)
        await client.close()


# ---- before the handshake is over ---------------------------------------------------------------------


def early() -> Sequence[tuple[str, Sequence[Frame]]]:
    hello = Frame(hello=Hello(protocol=1, nonce=b"n" * 32, executor=LEASE.executor))
    invoke = messages.invoke_frame(1, 0, invocation(), LEASE)
    return (
        ("an invocation first", [invoke]),
        ("an invocation after the hello", [hello, invoke]),
        ("a proof first", [Frame(proof=Proof())]),
        ("two hellos", [hello, hello]),
        ("another protocol", [Frame(hello=Hello(protocol=2, nonce=b"n" * 32))]),
        ("a short nonce", [Frame(hello=Hello(protocol=1, nonce=b"n"))]),
        ("a large hello", [Frame(hello=Hello(protocol=1, nonce=b"n" * 32, client="x" * MAX_HELLO))]),
        ("nothing", [Frame()]),
    )


@pytest.mark.parametrize("frames", [case[1] for case in early()], ids=[case[0] for case in early()])
async def test_whoever_says_anything_else_before_is_cut_off(frames: Sequence[Frame]) -> None:
    async with served() as place, connected(place.address) as peer:
        for frame in frames:
            peer.write(frame)
        assert await peer.at_end()
        assert place.host.runs == []


async def test_whoever_says_nothing_is_cut_off_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_session, "HANDSHAKE_SECONDS", 0.01)
    async with served() as place, connected(place.address) as peer:
        assert await peer.at_end()


async def test_whoever_is_let_in_is_not_cut_off_after_that_while() -> None:
    async with served() as place, connected(place.address, Access()):
        (session,) = place.server._sessions
        assert session._timer is not None and session._timer.cancelled()


# ---- TLS ----------------------------------------------------------------------------------------------


async def test_certificates_on_both_sides_are_a_proof() -> None:
    server, client, _ = certificates()
    async with served(access=server, theirs=client) as place:
        runs = [place.client.invoke(invocation(payload), LEASE) for payload in (b"1", b"x" * (6 << 20))]
        assert [len((await run.response).payload) for run in runs] == [1, 6 << 20]


async def test_a_client_without_a_certificate_is_refused() -> None:
    server, _, bare = certificates()
    async with served(access=server, theirs=bare) as place:
        await why_not(place.client)
        assert place.host.runs == []


async def test_an_executor_of_another_authority_is_refused() -> None:
    server, _, _ = certificates()
    _, stranger, _ = certificates()
    async with served(access=server, theirs=stranger) as place:
        assert "certificate" in (await why_not(place.client)).lower()


async def test_a_key_and_tls_are_both_asked_for() -> None:
    server, client, _ = certificates()
    both, wrong = Access(key=b"k" * 32, tls=client.tls, server_name=client.server_name), client
    async with served(access=Access(key=b"k" * 32, tls=server.tls), theirs=both) as place:
        await place.client.prepare(TARGET)
    async with served(access=Access(key=b"k" * 32, tls=server.tls), theirs=wrong) as place:
        assert "cluster key" in await why_not(place.client)


async def test_nobody_else_is_kept_out_by_who_stays_in_the_handshake() -> None:
    async with served(access=KEY) as place:
        strangers = [await asyncio.open_connection(*place.address) for _ in range(20)]
        assert await place.client.invoke(invocation(), LEASE).response == Response(b"{}")
        for _, writer in strangers:
            writer.close()
            await writer.wait_closed()


def test_nonces_differ() -> None:
    assert len({auth.nonce() for _ in range(10)}) == 10
