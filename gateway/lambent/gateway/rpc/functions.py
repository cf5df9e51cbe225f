"""FunctionService: the handlers of AWS's operations, asked by messages instead of HTTP. An RPC is named as its
operation, so one whose handler comes later needs nothing here; until then it is UNIMPLEMENTED.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf.message import Message

from lambent.gateway.fields import FieldChecker
from lambent.gateway.operations import OPERATIONS
from lambent.gateway.protocol.api import LambdaProtocol, not_built
from lambent.gateway.rpc.calls import Calls, Context, Rpc
from lambent.gateway.rpc.members import fill, members_of
from lambent.gateway.services import Call, Services
from lambent.v1 import functions_pb2, functions_pb2_grpc

SERVICE = functions_pb2.DESCRIPTOR.services_by_name["FunctionService"]
# AWS's answers that are one structure: here it is a field, so that a response can get others.
_WRAPPED = ("configuration", "alias")


class FunctionService(functions_pb2_grpc.FunctionServiceServicer):
    """`base_url`: of the HTTP port, for the URLs that code is downloaded from."""

    def __init__(self, services: Services, protocol: LambdaProtocol, calls: Calls, base_url: str) -> None:
        self._services = services
        self._protocol = protocol
        self._calls = calls
        self._base_url = base_url
        self._fields = FieldChecker()
        for method in SERVICE.methods:
            response = getattr(functions_pb2, method.output_type.name)
            setattr(self, method.name, self._handler(method.name, response))

    def _handler(
        self, operation: str, response: type[Message]
    ) -> Callable[[Message, Context], Awaitable[Message]]:
        async def handle(request: Message, context: Context) -> Message:
            rpc = self._calls.begin(context)
            return await rpc.run(operation, lambda: self._serve(rpc, operation, request, response()))

        return handle

    async def _serve(self, rpc: Rpc, operation: str, request: Message, response: Message) -> Message:
        handler = OPERATIONS.get(operation)
        if handler is None:
            raise not_built(operation)
        members = members_of(request)
        if operation == "UpdateFunctionCode":  # AWS has them on the request itself
            members |= members.pop("Code", {})
        self._protocol.check(operation, members)
        self._fields.check(operation, members)
        call = Call(rpc.request_id, self._base_url)
        output: Mapping[str, Any] = await handler(self._services, call, members) or {}
        rpc.trailing += [
            ("x-lambent-warning", text.encode("ascii", "replace").decode()) for text in call.warnings
        ]
        wrapped = next((name for name in _WRAPPED if name in response.DESCRIPTOR.fields_by_name), None)
        if wrapped is None or operation == "GetFunction":
            return fill(response, output)
        fill(getattr(response, wrapped), output).SetInParent()
        return response
