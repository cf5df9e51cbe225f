"""CloudWatch Logs' filter patterns, compiled to a test of a message.

AWS: terms ("ERROR timeout": all of them; "?A ?B": any; "-x": none; "two words": a phrase; %regular
expression%), and JSON (`{ $.level = "ERROR" && $.ms > 100 }`). Space-delimited patterns (`[ip, user, ...]`) are
not built.
"""

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from lambent.gateway.cloudwatch.errors import InvalidParameterException

Test = Callable[[str], bool]

_TERM = re.compile(r'\s*(?P<sign>[?-]?)(?:"(?P<phrase>(?:[^"\\]|\\.)*)"|%(?P<regex>[^%]+)%|(?P<word>[^\s"%]+))')
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"(?:[^"\\]|\\.)*")|%(?P<regex>[^%]+)%|(?P<op>&&|\|\||!=|<=|>=|=|<|>|\(|\))
    |(?P<path>\$(?:\.[A-Za-z0-9_@:-]+|\[[0-9]+\]|\[['"][^'"]+['"]\])*)|(?P<word>[^\s()&|=<>!"]+))""",
    re.VERBOSE,
)
_STEP = re.compile(r"\.([A-Za-z0-9_@:-]+)|\[([0-9]+)\]|\[['\"]([^'\"]+)['\"]\]")
_MOST = 1024
_DEEPEST = 20


def compile_filter(pattern: str) -> Test:
    """Raises InvalidParameterException."""
    text = pattern.strip()
    if not text:
        return lambda message: True
    if len(text) > _MOST:
        raise InvalidParameterException("The filter pattern has more than 1024 characters.")
    if text.startswith("["):
        raise InvalidParameterException(
            "Space-delimited filter patterns ([...]) are not built in Lambent. Use terms, or a JSON pattern."
        )
    if text.startswith("{"):
        if not text.endswith("}"):
            raise _invalid(pattern)
        return _Json(text[1:-1]).test()
    return _terms(text)


def _invalid(pattern: str) -> InvalidParameterException:
    return InvalidParameterException(f"Invalid filter pattern: {pattern[:200]}")


def _regex(text: str) -> "re.Pattern[str]":
    try:
        return re.compile(text)
    except (re.error, RecursionError, OverflowError):
        raise _invalid(f"%{text}%") from None


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def _terms(text: str) -> Test:
    needed: list[Test] = []
    optional: list[Test] = []
    excluded: list[Test] = []
    at = 0
    while at < len(text):
        match = _TERM.match(text, at)
        if match is None:
            raise _invalid(text)
        at = match.end()
        {"": needed, "?": optional, "-": excluded}[match["sign"]].append(_term(match))
        while at < len(text) and text[at].isspace():
            at += 1

    def test(message: str) -> bool:
        # AWS: optional terms beside needed ones have no effect.
        return (
            all(one(message) for one in needed)
            and not any(one(message) for one in excluded)
            and (bool(needed) or not optional or any(one(message) for one in optional))
        )

    return test


def _term(match: "re.Match[str]") -> Test:
    if match["regex"] is not None:
        compiled = _regex(match["regex"])
        return lambda message: compiled.search(message) is not None
    term = _unquoted(match["phrase"]) if match["phrase"] is not None else match["word"]
    return lambda message: term in message


Check = Callable[[Any], bool]


class _Json:
    """A recursive descent over `a && (b || c)`; && binds closer."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = list(self._split())
        self._at = 0
        self._depth = 0

    def _split(self) -> Iterator[tuple[str, str]]:
        at = 0
        while self._text[at:].strip():
            match = _TOKEN.match(self._text, at)
            if match is None or match.lastgroup is None or match.end() == at:
                raise _invalid(self._text)
            yield match.lastgroup, match[match.lastgroup]
            at = match.end()

    def test(self) -> Test:
        check = self._any()
        if self._at != len(self._tokens):
            raise _invalid(self._text)

        def test(message: str) -> bool:
            try:
                document = json.loads(message)
            except (ValueError, RecursionError):
                return False
            return check(document)

        return test

    def _peek(self) -> str:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else ""

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise _invalid(self._text)
        self._at += 1
        return self._tokens[self._at - 1]

    def _any(self) -> Check:
        checks = [self._all()]
        while self._peek() == "||":
            self._next()
            checks.append(self._all())
        return checks[0] if len(checks) == 1 else lambda document: any(check(document) for check in checks)

    def _all(self) -> Check:
        checks = [self._one()]
        while self._peek() == "&&":
            self._next()
            checks.append(self._one())
        return checks[0] if len(checks) == 1 else lambda document: all(check(document) for check in checks)

    def _one(self) -> Check:
        if self._peek() == "(":
            self._depth += 1
            if self._depth > _DEEPEST:
                raise _invalid(self._text)
            self._next()
            inside = self._any()
            if self._next()[1] != ")":
                raise _invalid(self._text)
            self._depth -= 1
            return inside
        kind, path = self._next()
        if kind != "path":
            raise _invalid(self._text)
        steps = [name or quoted or int(number) for name, number, quoted in _STEP.findall(path)]
        return self._condition(steps)

    def _condition(self, steps: list[Any]) -> Check:
        kind, operator = self._next()
        if kind == "word":
            words = operator.upper()
            if words in ("IS", "NOT"):
                words += " " + self._next()[1].upper()
            match words:
                case "EXISTS":
                    return lambda document: _find(document, steps) is not _MISSING
                case "NOT EXISTS":
                    return lambda document: _find(document, steps) is _MISSING
                case "IS NULL":
                    return lambda document: _find(document, steps) is None
                case "IS TRUE":
                    return lambda document: _find(document, steps) is True
                case "IS FALSE":
                    return lambda document: _find(document, steps) is False
            raise _invalid(self._text)
        if kind != "op" or operator in ("(", ")", "&&", "||"):
            raise _invalid(self._text)
        return self._comparison(steps, operator)

    def _comparison(self, steps: list[Any], operator: str) -> Check:
        kind, value = self._next()
        if kind == "regex":
            compiled = _regex(value)
            equal: Check = lambda found: isinstance(found, str) and compiled.search(found) is not None  # noqa: E731
        else:
            text = _unquoted(value[1:-1]) if kind == "text" else value
            number = _number(text) if kind == "word" else None
            if operator not in ("=", "!="):
                if number is None:
                    raise _invalid(self._text)
                return lambda document: _compared(_find(document, steps), operator, number)
            like = re.compile(".*".join(re.escape(part) for part in text.split("*")), re.DOTALL)

            def equal(found: Any) -> bool:
                if number is not None and isinstance(found, (int, float)) and not isinstance(found, bool):
                    return bool(found == number)
                return isinstance(found, str) and like.fullmatch(found) is not None

        if operator == "=":
            return lambda document: equal(_find(document, steps))
        if operator == "!=":
            return lambda document: (found := _find(document, steps)) is not _MISSING and not equal(found)
        raise _invalid(self._text)


_MISSING = object()


def _find(document: Any, steps: list[Any]) -> Any:
    for step in steps:
        try:
            if isinstance(step, int) != isinstance(document, list):
                return _MISSING
            document = document[step]
        except (LookupError, TypeError):
            return _MISSING
    return document


def _number(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,3})?", text) else None


def _compared(found: Any, operator: str, number: float) -> bool:
    if isinstance(found, bool) or not isinstance(found, (int, float)):
        return False
    match operator:
        case "<":
            return found < number
        case "<=":
            return found <= number
        case ">":
            return found > number
    return found >= number
