"""What both faces need to reach a server: channel options, TLS, and which RPC a request message belongs to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lambent.v1 import functions_pb2, invocations_pb2, queue_pb2, usage_pb2

# A response of 6 MB with what stands beside it; gRPC's own limit is 4.
_MAX_MESSAGE = 16 << 20
OPTIONS: Sequence[tuple[str, int]] = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.max_send_message_length", -1),
)


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files. `ca`: who signed the server's certificate, None: whom this machine trusts; `cert` and `key`:
    to show to a server that asks for a certificate; `server_name`: the name in the server's certificate, where
    it is not the one that the target has."""

    ca: Path | str | None = None
    cert: Path | str | None = None
    key: Path | str | None = None
    server_name: str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        if (self.cert is None) != (self.key is None):
            raise ValueError("give both cert and key, or neither")
        return grpc.ssl_channel_credentials(_read(self.ca), _read(self.key), _read(self.cert))

    def options(self) -> Sequence[tuple[str, str]]:
        return () if self.server_name is None else (("grpc.ssl_target_name_override", self.server_name),)


def _read(path: Path | str | None) -> bytes | None:
    return None if path is None else Path(path).read_bytes()


def _methods() -> dict[str, tuple[str, type[Message]]]:
    found: dict[str, tuple[str, type[Message]]] = {}
    for file in (functions_pb2, invocations_pb2, queue_pb2, usage_pb2):
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                found[method.input_type.full_name] = (path, GetMessageClass(method.output_type))
    return found


METHODS = _methods()
"""{request: (the RPC's path, its response)}; each RPC has a request of its own."""


def unary(channel: Any, request: Message) -> Any:
    """The RPC that a request belongs to, on either kind of channel."""
    path, response = METHODS[request.DESCRIPTOR.full_name]
    return channel.unary_unary(
        path, request_serializer=type(request).SerializeToString, response_deserializer=response.FromString
    )
