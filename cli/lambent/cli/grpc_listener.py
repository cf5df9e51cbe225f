"""The gRPC port of `lambent up`: what is wrong with its settings said before anything is started, then started
and stopped beside the HTTP listeners.

grpcio is in the extra `grpc`, so it is imported only if a port is asked for.
"""

import asyncio
import os
import ssl
from typing import TYPE_CHECKING, Protocol
from urllib.parse import urlsplit

from lambent.cli.client import Failed
from lambent.cli.listeners import bind
from lambent.gateway.app import App
from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.services import Services
from lambent.gateway.usage_report import UsageReport
from lambent.kernel.clock import SystemClock
from lambent.kernel.loopback import is_loopback
from lambent.kernel.settings import Settings
from lambent.kernel.tasks import Tasks

if TYPE_CHECKING:
    import grpc

    from lambent.gateway.rpc.server import Tls

_MISSING = "the gRPC port needs the extra `grpc`: pip install 'lambent[grpc]'; or leave out --grpc-port."


class Parts(Protocol):
    """What the API stands on, whoever wired it."""

    @property
    def services(self) -> Services: ...

    @property
    def functions(self) -> FunctionCache: ...

    @property
    def usage(self) -> UsageReport: ...

    @property
    def protocol(self) -> LambdaProtocol: ...

    @property
    def app(self) -> App: ...


class GrpcListener:
    """A `listeners.Serving`. `address`: as clients name it; `secured` says what a connection is worth."""

    def __init__(self, settings: Settings) -> None:
        """Bound already. Raises Failed that names what to change."""
        # This process forks to exec something else at once; gRPC's handlers for forks would only warn.
        os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
        try:
            from lambent.gateway.rpc.server import RpcServer, Tls
        except ImportError as missing:
            raise Failed(f"{_MISSING} ({missing})") from None
        host, port = settings.host, settings.grpc_port
        assert port is not None
        credentials = _credentials(_tls(settings, Tls))
        if credentials is None and not _on_loopback(host):
            raise Failed(
                f"gRPC without TLS is for loopback only, and --host is {host}. Set LAMBENT_GRPC_TLS_CERT and "
                "LAMBENT_GRPC_TLS_KEY (and LAMBENT_GRPC_TLS_CLIENT_CA, to let nobody else in), or leave out "
                "--grpc-port."
            )
        # For its error: gRPC tells a taken port in its own words.
        bind(host, port, flag="--grpc-port", variable="LAMBENT_GRPC_PORT").close()
        self._server = RpcServer()
        try:
            bound = self._server.bind(_address(host, port), credentials)
        except RuntimeError as failure:
            raise Failed(f"gRPC can't listen on {_address(host, port)} ({failure}).") from None
        self.address = _address(host, bound)
        self.port = bound
        self.secured = _secured(settings)
        self._refuse_reachable(settings)
        self._tasks: Tasks | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._started = False

    def _refuse_reachable(self, settings: Settings) -> None:
        for url in settings.reachable:
            if is_loopback(url) and urlsplit(url).port == self.port:
                raise Failed(
                    f"LAMBENT_REACHABLE names the gRPC port ({url}): functions could do there whatever they "
                    "like. They reach Invoke on the HTTP port."
                )

    def add(self, parts: Parts, base_url: str, tasks: Tasks) -> None:
        """What it serves. `base_url`: of the HTTP port."""
        self._server.add(
            parts.services,
            functions=parts.functions,
            protocol=parts.protocol,
            usage=parts.usage,
            authorise=parts.app.authorise,
            base_url=base_url,
            tasks=tasks,
        )

    async def start(self, tasks: Tasks, name: str) -> None:
        self._tasks, self._started = tasks, True
        await self._server.start()
        tasks.forever(f"{name} health", self._server.watch_health(SystemClock()))

    def stop_accepting(self, seconds: float) -> None:
        if self._started and self._tasks is not None:
            self._stopping = self._tasks.once("gRPC stop", self._server.stop(seconds))

    async def stopped(self) -> None:
        if self._stopping is not None:
            await asyncio.shield(self._stopping)

    def cut_off(self) -> None:
        if self._tasks is not None:
            self._tasks.once("gRPC cut", self._server.stop(None))

    async def close(self) -> None:
        """Frees the port of one that was never started; nothing for one that has stopped."""
        await self._server.stop(None)


def _tls(settings: Settings, form: "type[Tls]") -> "Tls | None":
    cert, key = settings.grpc_tls_cert, settings.grpc_tls_key
    return form(cert, key, settings.grpc_tls_client_ca) if cert is not None and key is not None else None


def _credentials(tls: "Tls | None") -> "grpc.ServerCredentials | None":
    if tls is None:
        return None
    try:
        return tls.credentials()
    except ssl.SSLError as failure:
        ca = f", client CA {tls.client_ca}" if tls.client_ca is not None else ""
        raise Failed(
            f"gRPC's certificate {tls.cert}, key {tls.key}{ca} can't be used ({failure.reason or failure}). "
            "They must be PEM files, and the key that of the certificate, without a passphrase."
        ) from None
    except OSError as failure:
        names = f"{tls.cert}, {tls.key}" + (f", {tls.client_ca}" if tls.client_ca else "")
        raise Failed(f"gRPC's TLS files can't be read ({names}): {failure.strerror}.") from None


def _secured(settings: Settings) -> str:
    if settings.grpc_tls_cert is None:
        return "plaintext"
    return "TLS" if settings.grpc_tls_client_ca is None else "TLS, clients need a certificate"


def _address(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _on_loopback(host: str) -> bool:
    return is_loopback(f"http://{_address(host, 0)}")
