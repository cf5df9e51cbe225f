"""From method and path to the operation, by a tree of path segments, because this stands before every call and
the Invoke path has microseconds to spend.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

from lambent.gateway.protocol.model import Operation
from lambent.kernel.errors import SerializationException, UnknownOperationException

_KNOWN = 4096  # request lines that are kept
_SHORT = 512  # bytes; longer ones are not
MAX_QUERY_FIELDS = 1000
"""UntagResource names its keys in the query; more than this is nobody's request."""


@dataclass(slots=True)
class Match:
    """What a request line says. `uri` holds the path's labels, decoded, by their names in the model; `query`
    every value of each query field. Matches are kept and shared: change none of it. `checked` is the parser's
    own: the members that the line alone gives, once they have satisfied every constraint."""

    operation: str
    uri: Mapping[str, str]
    query: Mapping[str, list[str]]
    checked: Mapping[str, Any] | None = field(default=None, compare=False)


class _Route(NamedTuple):
    operation: str
    labels: tuple[str, ...]
    literals: tuple[tuple[str, str], ...]


class _Node:
    __slots__ = ("greedy", "label", "routes", "static")

    def __init__(self) -> None:
        self.static: dict[str, _Node] = {}
        self.label: _Node | None = None
        self.greedy: _Node | None = None
        self.routes: dict[str, list[_Route]] = {}


class Router:
    """Finds operations by the model's request URIs. Segments are decoded after the split, so a label may hold
    `%2F`; a trailing slash is ignored, because older SDKs send one."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self._root = _Node()
        self._known: dict[tuple[str, str | bytes, bytes], Match] = {}
        for operation in operations:
            self._add(operation)

    def match(self, method: str, path: str | bytes, query: bytes = b"") -> Match:
        """`path` and `query` as on the wire. Raises UnknownOperationException, SerializationException."""
        line = (method, path, query)
        known = self._known.get(line)
        if known is None:
            known = self._find(method, path, query)
            if len(path) + len(query) <= _SHORT:
                if len(self._known) >= _KNOWN:
                    self._known.clear()
                self._known[line] = known
        return known

    def _find(self, method: str, path: str | bytes, query: bytes) -> Match:
        if isinstance(path, bytes):
            path = path.decode("latin-1")
        segments = path.split("/")[1:]
        if len(segments) > 1 and not segments[-1]:
            segments.pop()
        captured: list[str] = []
        node = _walk(self._root, segments, 0, captured)
        if node is not None and method in node.routes:
            fields = _parse_query(query) if query else {}
            for route in node.routes[method]:
                if not route.literals or _has_literals(fields, route.literals):
                    uri = {
                        name: unquote(text) if "%" in text else text
                        for name, text in zip(route.labels, captured, strict=True)
                    }
                    return Match(route.operation, uri, fields)
        raise UnknownOperationException(f"There is no operation at {method} {path} in the Lambda API.")

    def _add(self, operation: Operation) -> None:
        path, _, query = operation.path.partition("?")
        labels: list[str] = []
        node = self._root
        for segment in path.strip("/").split("/"):
            if not segment.startswith("{"):
                node = node.static.setdefault(segment, _Node())
            elif segment.endswith("+}"):
                labels.append(segment[1:-2])
                node.greedy = node = node.greedy or _Node()
            else:
                labels.append(segment[1:-1])
                node.label = node = node.label or _Node()
        literals = tuple((key, values[0]) for key, values in parse_qs(query, keep_blank_values=True).items())
        routes = node.routes.setdefault(operation.method, [])
        routes.append(_Route(operation.name, tuple(labels), literals))
        routes.sort(key=lambda route: -len(route.literals))


def _walk(node: _Node, segments: list[str], at: int, captured: list[str]) -> _Node | None:
    """The node where the segments end; a fixed word wins over a label. `captured` receives the labels."""
    if at == len(segments):
        return node if node.routes else None
    segment = segments[at]
    child = node.static.get(segment)
    if child is not None and (found := _walk(child, segments, at + 1, captured)) is not None:
        return found
    if node.label is not None:
        captured.append(segment)
        if (found := _walk(node.label, segments, at + 1, captured)) is not None:
            return found
        captured.pop()
    if node.greedy is not None:
        for end in range(at + 1, len(segments) + 1):  # the shortest first: a fixed tail wins over more label
            captured.append("/".join(segments[at:end]))
            if (found := _walk(node.greedy, segments, end, captured)) is not None:
                return found
            captured.pop()
    return None


def _parse_query(query: bytes) -> dict[str, list[str]]:
    try:
        return parse_qs(query.decode("latin-1"), keep_blank_values=True, max_num_fields=MAX_QUERY_FIELDS)
    except ValueError as error:
        raise SerializationException("The query string has too many fields.") from error


def _has_literals(fields: Mapping[str, list[str]], literals: tuple[tuple[str, str], ...]) -> bool:
    return all(value in fields.get(key, ()) for key, value in literals)
