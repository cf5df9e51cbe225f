"""The public gRPC API: AWS's operations, events by the stream, queue and usage, over the same handlers and
`invoke.py` as HTTP, in the same event loop; with gRPC's own health and reflection services.

The module to import: the rest of this package is its parts. Needs the extra `grpc`.
"""

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from lambent.gateway.function_cache import FunctionCache
from lambent.gateway.invoke import Invoker
from lambent.gateway.protocol.api import LambdaProtocol
from lambent.gateway.rpc.calls import Authorise, Calls
from lambent.gateway.rpc.functions import FunctionService
from lambent.gateway.rpc.invocations import InvocationService
from lambent.gateway.rpc.publish import Publisher
from lambent.gateway.rpc.queue import QueueService
from lambent.gateway.rpc.usage import UsageService
from lambent.gateway.services import Services
from lambent.gateway.usage_report import UsageReport
from lambent.kernel.errors import LambdaError
from lambent.kernel.ports import Clock, FunctionStore
from lambent.kernel.routing import Router
from lambent.kernel.tasks import Tasks
from lambent.v1 import (
    functions_pb2,
    functions_pb2_grpc,
    invocations_pb2,
    invocations_pb2_grpc,
    queue_pb2,
    queue_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
)

# A zip archive of 50 MB and what stands beside it. What an invocation may have is checked as for HTTP.
MAX_MESSAGE = (50 << 20) + (1 << 20)
_HEALTH_SECONDS = 2.0
_STREAMS_SECONDS = 2.0
_LINGER_SECONDS = 0.2
_OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),  # else two servers could have one port, and each half of the clients
    # A peer that is gone without a word is found, and its streams end.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
SERVICES = (
    functions_pb2.DESCRIPTOR.services_by_name["FunctionService"].full_name,
    invocations_pb2.DESCRIPTOR.services_by_name["InvocationService"].full_name,
    queue_pb2.DESCRIPTOR.services_by_name["QueueService"].full_name,
    usage_pb2.DESCRIPTOR.services_by_name["UsageService"].full_name,
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. `client_ca`: whose certificates clients must show; None: they need none."""

    cert: Path
    key: Path
    client_ca: Path | None = None

    def credentials(self) -> grpc.ServerCredentials:
        """Raises OSError (`filename` is set) or ssl.SSLError (they don't fit, or are no PEM): gRPC itself would
        tell its log only."""
        check = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        check.load_cert_chain(self.cert, self.key)
        if self.client_ca is not None:
            check.load_verify_locations(self.client_ca)
        return grpc.ssl_server_credentials(
            [(self.key.read_bytes(), self.cert.read_bytes())],
            self.client_ca.read_bytes() if self.client_ca is not None else None,
            require_client_auth=self.client_ca is not None,
        )


class RpcServer:
    """Bind, serve, then stop in two steps. In the event loop that it is made in."""

    def __init__(self) -> None:
        self._server = grpc.aio.server(options=list(_OPTIONS))
        self._health = health.aio.HealthServicer()
        self._publisher: Publisher | None = None
        self._watched: FunctionStore | None = None

    def bind(self, address: str, credentials: grpc.ServerCredentials | None) -> int:
        """The port. Raises RuntimeError where gRPC can't listen."""
        if credentials is None:
            return self._server.add_insecure_port(address)
        return self._server.add_secure_port(address, credentials)

    def add(
        self,
        services: Services,
        *,
        functions: FunctionCache,
        protocol: LambdaProtocol,
        usage: UsageReport,
        authorise: Authorise,
        base_url: str,
        tasks: Tasks,
    ) -> None:
        """What it serves. `base_url`: of the HTTP port, where code is downloaded."""
        calls, invoker = Calls(tasks, authorise), Invoker(services, functions, Router(functions.version))
        self._publisher = Publisher(invoker, protocol, tasks)
        self._watched = services.store
        functions_pb2_grpc.add_FunctionServiceServicer_to_server(
            FunctionService(services, protocol, calls, base_url), self._server
        )
        invocations_pb2_grpc.add_InvocationServiceServicer_to_server(
            InvocationService(invoker, protocol, calls, self._publisher), self._server
        )
        queue_pb2_grpc.add_QueueServiceServicer_to_server(QueueService(services, calls), self._server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(UsageService(usage, calls), self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (*SERVICES, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection.enable_server_reflection(names, self._server)

    async def start(self) -> None:
        """Returns when it serves."""
        await self._tell(health_pb2.HealthCheckResponse.SERVING)
        await self._server.start()

    async def watch_health(self, clock: Clock) -> None:
        """For ever: SERVING while the store answers, which everything needs."""
        assert self._watched is not None
        while True:
            await clock.sleep(_HEALTH_SECONDS)
            try:
                async with asyncio.timeout(_HEALTH_SECONDS):
                    await self._watched.ping()
            except (LambdaError, TimeoutError):
                await self._tell(health_pb2.HealthCheckResponse.NOT_SERVING)
            else:
                await self._tell(health_pb2.HealthCheckResponse.SERVING)

    async def _tell(self, status: int) -> None:
        for name in ("", *SERVICES):
            await self._health.set(name, status)

    async def stop(self, seconds: float | None) -> None:
        """No new RPCs from now on; returns when the last one has ended, or been cut off after so long (None: at
        once). A later call may shorten the time."""
        await self._health.enter_graceful_shutdown()
        if self._publisher is not None and self._publisher.close() and seconds:
            # gRPC closes a connection with its last stream, and a client that is writing just then would see a
            # broken pipe instead of its last answers.
            await self._publisher.ended(min(seconds, _STREAMS_SECONDS))
            await asyncio.sleep(_LINGER_SECONDS)
        await self._server.stop(seconds)
