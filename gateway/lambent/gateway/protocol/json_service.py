"""A service whose inputs and outputs are whole JSON objects (AWS JSON), by the same rules and messages as
Lambda's."""

from collections.abc import Mapping
from typing import Any

from botocore.loaders import Loader
from botocore.model import ServiceModel

from lambent.gateway.protocol.constraints import StructureCheck, raise_if_any
from lambent.gateway.protocol.decode import Convert, json_converter, parse_json
from lambent.gateway.protocol.reply import Encode, json_encoder
from lambent.kernel.errors import SerializationException


class JsonService:
    """The given operations of a service, compiled once."""

    def __init__(self, service: str, version: str, operations: frozenset[str]) -> None:
        loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
        model = ServiceModel(loader.load_service_model(service, "service-2", version), service)
        self.known = frozenset(model.operation_names)
        self._inputs: dict[str, tuple[Convert, StructureCheck]] = {}
        self._outputs: dict[str, Encode | None] = {}
        for name in operations:
            operation = model.operation_model(name)
            self._inputs[name] = (
                json_converter(operation.input_shape),
                StructureCheck(operation.input_shape, f"{service}:{name}"),
            )
            output = operation.output_shape
            self._outputs[name] = None if output is None else json_encoder(output)

    def parse(self, operation: str, body: bytes) -> dict[str, Any]:
        """Raises SerializationException, ValidationException."""
        convert, check = self._inputs[operation]
        document = parse_json(body)
        if not isinstance(document, dict):
            raise SerializationException("The request body must be a JSON object.")
        params: dict[str, Any] = convert(document, "")
        problems: list[str] = []
        check(params, "", problems)
        raise_if_any(problems)
        return params

    def serialise(self, operation: str, output: Mapping[str, Any] | None) -> Any:
        """What `json` can write. Raises ValueError for a member that the model has not."""
        encode = self._outputs[operation]
        return {} if encode is None else encode(output or {})
