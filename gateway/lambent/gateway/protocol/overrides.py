"""Where the service does otherwise than its model says; each row with its reason, so that a later model can
make it go away.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lambent.kernel.errors import InvalidParameterValueException, LambdaError


@dataclass(frozen=True, slots=True)
class Limits:
    """Other bounds than the model's. `applies` tells for which values `maximum` stands in for the model's."""

    why: str
    maximum: int
    applies: Callable[[Any], bool] = lambda value: True


_MANAGED = "AWS: the model's bound is for managed instances; ordinary functions have the older one"
_TIMEOUT = Limits(_MANAGED, 900)
_MEMORY = Limits(_MANAGED, 10240)
_EPHEMERAL = Limits("AWS: more than 10240 MB needs AcceleratorConfig", 10240)

LIMITS: Mapping[tuple[str, str], Limits] = {
    ("CreateFunction", "Timeout"): _TIMEOUT,
    ("CreateFunction", "MemorySize"): _MEMORY,
    ("CreateFunction", "EphemeralStorage.Size"): _EPHEMERAL,
    ("CreateFunction", "FunctionName"): Limits(
        "AWS: the model's 140 is for an ARN; a bare name of a new function has 64",
        64,
        applies=lambda name: ":" not in name,
    ),
    ("UpdateFunctionConfiguration", "Timeout"): _TIMEOUT,
    ("UpdateFunctionConfiguration", "MemorySize"): _MEMORY,
    ("UpdateFunctionConfiguration", "EphemeralStorage.Size"): _EPHEMERAL,
}
"""(operation, dotted member path) -> other bounds."""


def _unknown_runtime(value: str, known: tuple[str, ...]) -> LambdaError:
    return InvalidParameterValueException(
        f"Value {value} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
        f"[{', '.join(known)}] or be a valid ARN"
    )


OWN_ENUM_ERRORS: Mapping[tuple[str, str], Callable[[str, tuple[str, ...]], LambdaError]] = {
    ("CreateFunction", "Runtime"): _unknown_runtime,
    ("UpdateFunctionConfiguration", "Runtime"): _unknown_runtime,
}
"""Top-level enum members whose violation is a business error of its own, raised after all other constraints."""

NO_CONTENT: frozenset[str] = frozenset({"DeleteFunction"})
"""Operations for which the service sends 204 though the model says 200."""

WITHOUT_TYPE: frozenset[str] = frozenset(
    {
        "AccessDeniedException",
        "SerializationException",
        "UnknownOperationException",
        "ValidationException",
    }
)
"""Errors of AWS's front end, which know nothing of the Lambda model and have no member `Type`."""
