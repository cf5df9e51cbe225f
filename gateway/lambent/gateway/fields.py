"""The no-silent-field rule at work: a field that Lambent does not act on is refused before the handler sees it.

What each field is stands in `field_table`; this makes it quick to ask. A field that AWS's model has got since,
and the table has not, is refused too: an upgrade of the model adds no silence.
"""

import platform
from collections.abc import Mapping, Sequence
from typing import Any

from lambent.gateway.field_rules import HOST, Fields, Kind, Refused, Rule
from lambent.gateway.field_table import TABLE
from lambent.kernel.errors import InvalidParameterValueException, NotImplementedException

BUILT: frozenset[str] = frozenset(TABLE)
"""The operations that have a handler; the table of handlers and this are held together by a test."""


class FieldChecker:
    """Refuses fields by the table. `host_architecture`: AWS's word, x86_64 or arm64; None: this machine's."""

    def __init__(self, host_architecture: str | None = None, table: Mapping[str, Fields] = TABLE) -> None:
        host = host_architecture or this_architecture()
        self._trees = {name: _tree(fields, host) for name, fields in table.items()}

    def check(self, operation: str, params: Mapping[str, Any]) -> None:
        """Raises InvalidParameterValueException for the first field that is refused, in the model's order;
        NotImplementedException for an operation that has no table."""
        tree = self._trees.get(operation)
        if tree is None:
            raise NotImplementedException(f"{operation} is not built in Lambent yet: its fields have no table.")
        _check(tree, params, "")


def this_architecture() -> str:
    """This machine's architecture as AWS names it; on others than AWS's two, as the kernel does."""
    machine = platform.machine()
    return {"aarch64": "arm64", "AMD64": "x86_64"}.get(machine, machine)


class _Refusal:
    __slots__ = ("message", "unless")

    def __init__(self, rule: Refused, host: str) -> None:
        self.message = rule.message.replace("{host}", host)
        self.unless = tuple([host] if value is HOST else value for value in rule.unless)


_Node = dict[str, Any]  # name -> _Refusal | None (accepted) | _Node (a structure without a rule of its own)


def _tree(fields: Fields, host: str) -> _Node:
    root: _Node = {}
    for path, rule in fields.items():
        *above, last = path.split(".")
        node = root
        for name in above:
            node = node.setdefault(name, {})
        node[last] = _Refusal(rule, host) if isinstance(rule, Refused) else None
    return root


def _check(tree: _Node, params: Mapping[str, Any], prefix: str) -> None:
    for name, value in params.items():
        try:
            node = tree[name]
        except KeyError:
            raise InvalidParameterValueException(
                f"{prefix}{name} is newer than this Lambent, which can't act on it. "
                "Leave it out, or upgrade Lambent."
            ) from None
        if node is None:
            continue
        if isinstance(node, _Refusal):
            if value not in node.unless:
                raise InvalidParameterValueException(
                    f"{prefix}{name} is not supported by Lambent: {node.message}"
                )
        else:
            for item in value if isinstance(value, list) else (value,):
                _check(node, item, f"{prefix}{name}.")


def kind_of(rule: Rule) -> Kind:
    """A rule's class, as the parity page names it."""
    kind: Kind = type(rule).__name__.lower()  # type: ignore[assignment]  # the four classes are Kind's words
    return kind


def rule_for(fields: Fields, path: str) -> Rule | None:
    """The rule of a field: its own, or that of a *refused* structure that it is in. None: the table has none
    (a structure whose members have rules of their own needs none)."""
    own = fields.get(path)
    if own is not None:
        return own
    parts = path.split(".")
    for length in range(len(parts) - 1, 0, -1):
        above = fields.get(".".join(parts[:length]))
        if isinstance(above, Refused):
            return above
    return None


def leaves(paths: Sequence[str]) -> list[str]:
    """The fields that hold no other field: those that need a rule."""
    parents = {path.rpartition(".")[0] for path in paths}
    return [path for path in paths if path not in parents]
