"""The model's constraints (required, length, range, pattern, enum) with AWS's own message, because clients and
their tests read that text: every violation of a request is collected into one ValidationException.

A constraint is a text and a test of a typed value. Lists and maps carry their members' constraints as one of
their own, as AWS prints them; structures are walked, and their members have paths.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from botocore.model import Shape

from lambent.gateway.protocol.model import lower_first
from lambent.gateway.protocol.overrides import LIMITS, OWN_ENUM_ERRORS, Limits
from lambent.gateway.protocol.patterns import compile_java
from lambent.kernel.errors import ValidationException

NOT_NULL = "Member must not be null"

Walk = Callable[[Any, str, list[str]], None]
"""(value, path, problems found so far): looks into the structures under a value."""


class Constraint(NamedTuple):
    """AWS's text, and the test of a value that is not null."""

    text: str
    holds: Callable[[Any], bool]


class _Member(NamedTuple):
    name: str
    shown: str
    required: bool
    sensitive: bool
    constraints: tuple[Constraint, ...]
    walk: Walk | None


def raise_if_any(problems: Sequence[str]) -> None:
    """Raises ValidationException with all of them in one message."""
    if problems:
        count = len(problems)
        noun = "error" if count == 1 else "errors"
        failure = ValidationException(f"{count} validation {noun} detected: {'; '.join(problems)}")
        failure.problems = tuple(problems)
        raise failure


class StructureCheck:
    """The constraints of a structure's members. `at` is its place, (operation, dotted path), for overrides."""

    __slots__ = ("_members",)

    def __init__(
        self,
        shape: Shape,
        operation: str,
        prefix: str = "",
        active: Mapping[str, "StructureCheck"] | None = None,
    ) -> None:
        below = {**(active or {}), shape.name: self}
        required = frozenset(shape.required_members)
        self._members = tuple(
            member
            for name, inner in shape.members.items()
            if (member := _member(name, inner, name in required, (operation, f"{prefix}{name}"), below))
        )

    def __call__(self, value: Mapping[str, Any], prefix: str, problems: list[str]) -> None:
        """Adds an item per violation to `problems`; `prefix` is "" or ends with a dot."""
        for member in self._members:
            given = value.get(member.name)
            if given is None:
                if member.required:
                    problems.append(
                        f"Value null at '{prefix}{member.shown}' failed to satisfy constraint: {NOT_NULL}"
                    )
                continue
            for constraint in member.constraints:
                if not constraint.holds(given):
                    printed = "" if member.sensitive else f" '{show(given)}'"
                    problems.append(
                        f"Value{printed} at '{prefix}{member.shown}' failed to satisfy constraint: "
                        f"{constraint.text}"
                    )
            if member.walk is not None:
                member.walk(given, f"{prefix}{member.shown}", problems)


def show(value: Any) -> str:
    """A value as AWS prints it in a message: `[a, b]`, `{k=v}`, `true`."""
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case dict():
            return "{" + ", ".join(f"{key}={show(item)}" for key, item in value.items()) + "}"
        case list():
            return "[" + ", ".join(show(item) for item in value) + "]"
        case bytes():
            return f"{len(value)} bytes"
        case datetime():
            return value.isoformat()
    return str(value)


def _member(
    name: str, shape: Shape, required: bool, at: tuple[str, str], active: Mapping[str, StructureCheck]
) -> _Member | None:
    constraints = _constraints(shape, LIMITS.get(at), with_enum=at not in OWN_ENUM_ERRORS)
    walk = _walk(shape, at, active)
    if not (required or constraints or walk):
        return None
    return _Member(name, lower_first(name), required, _sensitive(shape), constraints, walk)


def _sensitive(shape: Shape) -> bool:
    """AWS leaves a secret's value out of the message, and so of every log that keeps it."""
    if shape.metadata.get("sensitive"):
        return True
    match shape.type_name:
        case "list":
            return _sensitive(shape.member)
        case "map":
            return _sensitive(shape.key) or _sensitive(shape.value)
    return False


def _walk(shape: Shape, at: tuple[str, str], active: Mapping[str, StructureCheck]) -> Walk | None:
    operation, path = at
    match shape.type_name:
        case "structure":
            check = active.get(shape.name) or StructureCheck(shape, operation, f"{path}.", active)
            return lambda value, path, problems: check(value, f"{path}.", problems)
        case "list":
            inner = _walk(shape.member, at, active)
            return _walk_items(inner, lambda items: enumerate(items, 1)) if inner else None
        case "map":
            inner = _walk(shape.value, at, active)
            return _walk_items(inner, lambda items: items.items()) if inner else None
    return None


def _walk_items(inner: Walk, items: Callable[[Any], Any]) -> Walk:
    def walk(value: Any, path: str, problems: list[str]) -> None:
        for key, item in items(value):
            if item is not None:
                inner(item, f"{path}.{key}.member", problems)

    return walk


def _constraints(
    shape: Shape, limits: Limits | None = None, *, with_enum: bool = True
) -> tuple[Constraint, ...]:
    kind = shape.type_name
    found: list[Constraint] = []
    if kind in ("string", "blob", "list", "map"):
        found += _bounds(shape, "length", len, limits)
    elif kind in ("integer", "long", "float", "double"):
        found += _bounds(shape, "value", lambda value: value, limits)
    if kind == "list":
        found.append(_all("Member must satisfy constraint", _constraints(shape.member), lambda items: items))
    elif kind == "map":
        found.append(_all("Map keys must satisfy constraint", _constraints(shape.key), lambda items: items))
        found.append(
            _all("Map value must satisfy constraint", _constraints(shape.value), lambda items: items.values())
        )
    elif kind == "string":
        if with_enum and "enum" in shape.metadata:
            found.append(_enum(shape.metadata["enum"]))
        if "pattern" in shape.metadata:
            found.append(_pattern(shape.metadata["pattern"]))
    return tuple(found)


def _bounds(
    shape: Shape, noun: str, measure: Callable[[Any], float], limits: Limits | None
) -> list[Constraint]:
    found: list[Constraint] = []
    maximum, minimum = shape.metadata.get("max"), shape.metadata.get("min")
    if limits is not None:
        found.append(_at_most(limits.maximum, noun, measure, limits.applies))
        if maximum is not None:
            applies = limits.applies
            found.append(_at_most(maximum, noun, measure, lambda value: not applies(value)))
    elif maximum is not None:
        found.append(_at_most(maximum, noun, measure, None))
    if minimum is not None:  # AWS prints a length of 0, too
        found.append(
            Constraint(
                f"Member must have {noun} greater than or equal to {_number(minimum)}",
                lambda value: measure(value) >= minimum,
            )
        )
    return found


def _at_most(
    maximum: float, noun: str, measure: Callable[[Any], float], applies: Callable[[Any], bool] | None
) -> Constraint:
    text = f"Member must have {noun} less than or equal to {_number(maximum)}"
    if applies is None:
        return Constraint(text, lambda value: measure(value) <= maximum)
    return Constraint(text, lambda value: not applies(value) or measure(value) <= maximum)


def _number(bound: float) -> str:
    return str(int(bound)) if float(bound).is_integer() else str(bound)


def _enum(values: Sequence[str]) -> Constraint:
    allowed = frozenset(values)
    return Constraint(
        f"Member must satisfy enum value set: [{', '.join(values)}]", lambda value: value in allowed
    )


def _pattern(pattern: str) -> Constraint:
    matches = compile_java(pattern).fullmatch
    return Constraint(
        f"Member must satisfy regular expression pattern: {pattern}",
        lambda value: matches(value) is not None,
    )


def _all(prefix: str, constraints: tuple[Constraint, ...], items: Callable[[Any], Any]) -> Constraint:
    """What every item of a list, or every key or value of a map, must satisfy; AWS lists it all."""
    texts = [constraint.text for constraint in constraints] + [NOT_NULL]
    tests = tuple(constraint.holds for constraint in constraints)
    return Constraint(
        f"{prefix}: [{', '.join(texts)}]",
        lambda value: all(item is not None and all(holds(item) for holds in tests) for item in items(value)),
    )
