"""CloudWatch Logs' filter patterns."""

import json

import pytest

from lambent.gateway.cloudwatch.errors import InvalidParameterException
from lambent.gateway.cloudwatch.filters import compile_filter

LINE = 'ERROR request timeout "x" a-b took 12 ms'
DOCUMENT = {
    "level": "ERROR",
    "ms": 12.5,
    "ok": True,
    "none": None,
    "who": {"name": "Ann Lee"},
    "ids": [7, {"a": "b"}],
}


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("", True),
        ("ERROR", True),
        ("error", False),
        ("ERROR timeout", True),
        ("ERROR missing", False),
        ('"request timeout"', True),
        ('"timeout request"', False),
        ("?missing ?timeout", True),
        ("?missing ?other", False),
        ("ERROR -timeout", False),
        ("ERROR -missing", True),
        ("ERROR ?missing", True),
        ('-"a-b"', False),
        ("a-b", True),
        (r'"\"x\""', True),
        ("%took [0-9]+ ms%", True),
        ("%took [a-z]+ ms%", False),
        ("-missing", True),
    ],
)
def test_terms(pattern: str, found: bool) -> None:
    assert compile_filter(pattern)(LINE) is found


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ('{ $.level = "ERROR" }', True),
        ("{ $.level = ERROR }", True),
        ('{ $.level = "ERR*" }', True),
        ('{ $.level = "*" }', True),
        ('{ $.level != "ERROR" }', False),
        ('{ $.level != "WARN" }', True),
        ('{ $.gone != "WARN" }', False),
        ("{ $.level = %^ERR% }", True),
        ("{ $.ms > 12 }", True),
        ("{ $.ms >= 12.5 && $.ms <= 12.5 }", True),
        ("{ $.ms < 12 }", False),
        ("{ $.ms = 12.5 }", True),
        ("{ $.ms != 12.5 }", False),
        ("{ $.level > 1 }", False),
        ("{ $.ok > 0 }", False),
        ("{ $.ok IS TRUE }", True),
        ("{ $.ok IS FALSE }", False),
        ("{ $.none IS NULL }", True),
        ("{ $.ok IS NULL }", False),
        ("{ $.gone NOT EXISTS }", True),
        ("{ $.none NOT EXISTS }", False),
        ("{ $.none EXISTS }", True),
        ('{ $.who.name = "Ann Lee" }', True),
        ("{ $.ids[0] = 7 }", True),
        ("{ $.ids[9] = 7 }", False),
        ('{ $.ids[1].a = "b" }', True),
        ("{ $['who']['name'] = \"Ann*\" }", True),
        ('{ $.level = "WARN" || $.ms > 1 }', True),
        ('{ $.level = "WARN" || $.ms > 1 && $.ms > 100 }', False),
        ('{ ($.level = "ERROR" || $.ms > 1) && $.ms > 100 }', False),
        ('{ $.level = "a\\"b" }', False),
    ],
)
def test_json(pattern: str, found: bool) -> None:
    assert compile_filter(pattern)(json.dumps(DOCUMENT)) is found


@pytest.mark.parametrize("message", ["no json", "[" * 100_000, "7", "null", "[]"])
def test_what_is_no_object_matches_no_json_pattern(message: str) -> None:
    assert compile_filter('{ $.level = "ERROR" }')(message) is False


@pytest.mark.parametrize(
    "pattern",
    [
        "{",
        "{ }",
        "{ $.a }",
        "{ $.a = }",
        "{ $.a ~ 1 }",
        "{ a = 1 }",
        "{ $.a = 1 && }",
        "{ ($.a = 1 }",
        "{ $.a = 1) }",
        "{ $.a < x }",
        "{ $.a < %x% }",
        "{ $.a IS 7 }",
        "{ " + "(" * 30 + "$.a = 1" + ")" * 30 + " }",
        "%(%",
        '"open',
        "a" * 1025,
        "[ip, user]",
    ],
)
def test_what_cannot_be_read_is_refused(pattern: str) -> None:
    with pytest.raises(InvalidParameterException):
        compile_filter(pattern)
