"""Who may call the internal gRPC ports: on loopback anybody, elsewhere whoever has a certificate of ours or the
cluster's key. The key itself is never sent: a call carries a code made with it, of the method and the time.
"""

import hmac
import secrets
import ssl
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from lambent.kernel.remote.auth import Access

_HEADER = "x-lambent-cluster"
# Between the clocks of two machines, and on the way.
_SECONDS = 300
Metadata = tuple[tuple[str, str], ...]
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", 32 << 20),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    # A peer that is gone without a word is found within ten seconds.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 4_000),
    # A scheduler that is back is found at once.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    ("grpc.enable_http_proxy", 0),
)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files of this process, and of who signs its peers'."""

    cert: Path
    key: Path
    ca: Path

    def context(self, *, server: bool) -> ssl.SSLContext:
        """For frames. Raises OSError, ssl.SSLError."""
        purpose = ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT
        context = ssl.SSLContext(purpose)
        context.load_cert_chain(self.cert, self.key)
        context.load_verify_locations(self.ca)
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def of_server(self) -> grpc.ServerCredentials:
        """Raises OSError."""
        pair = (self.key.read_bytes(), self.cert.read_bytes())
        return grpc.ssl_server_credentials([pair], self.ca.read_bytes(), require_client_auth=True)

    def of_client(self) -> grpc.ChannelCredentials:
        """Raises OSError."""
        return grpc.ssl_channel_credentials(self.ca.read_bytes(), self.key.read_bytes(), self.cert.read_bytes())


@dataclass(frozen=True, slots=True)
class Cluster:
    """What this process shows its peers. `access`: of frames, and the key of both."""

    access: Access
    certificates: Certificates | None = None

    def channel(self, address: str) -> grpc.aio.Channel:
        """To a peer."""
        if self.certificates is None:
            return grpc.aio.insecure_channel(address, options=list(OPTIONS))
        return grpc.aio.secure_channel(address, self.certificates.of_client(), options=list(OPTIONS))

    def bind(self, server: grpc.aio.Server, host: str, port: int) -> int:
        """The port. Raises ValueError for an address beyond loopback without a proof, RuntimeError where gRPC
        cannot listen."""
        self.access.check(host, "The internal gRPC port on")
        address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self.certificates is None:
            return server.add_insecure_port(address)
        return server.add_secure_port(address, self.certificates.of_server())

    def server(self) -> grpc.aio.Server:
        return grpc.aio.server(interceptors=[_Guard(self.access.key)], options=list(OPTIONS))

    def metadata(self, method: str) -> Metadata:
        """To be sent with a call."""
        key = self.access.key
        if key is None:
            return ()
        said = f"{int(time.time())}.{secrets.token_hex(16)}"
        return ((_HEADER, f"{said}.{_code(key, method, said)}"),)


def _code(key: bytes, method: str, said: str) -> str:
    return hmac.digest(key, f"lambent grpc 1 {method} {said}".encode(), "sha256").hex()


def proved(key: bytes, method: str, header: str) -> bool:
    """Whether a call was made with the key, lately."""
    said, _, code = header.rpartition(".")
    at = said.partition(".")[0]
    if not (at.isascii() and at.isdigit() and len(at) < 16 and header.isascii()):
        return False
    return hmac.compare_digest(code, _code(key, method, said)) and abs(time.time() - int(at)) <= _SECONDS


class _Guard(grpc.aio.ServerInterceptor):
    """Refuses calls that prove nothing."""

    def __init__(self, key: bytes | None) -> None:
        self._key = key
        self._refusal: Any = grpc.unary_unary_rpc_method_handler(_refuse)
        self._stream_refusal: Any = grpc.stream_stream_rpc_method_handler(_refuse_stream)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        handler = await continuation(handler_call_details)
        if self._key is None or handler is None:
            return handler
        header = next(
            (value for name, value in handler_call_details.invocation_metadata if name == _HEADER), ""
        )
        if isinstance(header, str) and proved(self._key, handler_call_details.method, header):
            return handler
        return self._stream_refusal if handler.request_streaming else self._refusal


_WHY = "This port belongs to a Lambent cluster: set the same LAMBENT_CLUSTER_KEY."


async def _refuse(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, _WHY)


async def _refuse_stream(_: Any, context: Any) -> None:
    await context.abort(grpc.StatusCode.UNAUTHENTICATED, _WHY)
