"""What of AWS's API is built, field by field, for people: as JSON at /_lambent/parity and as docs/parity.md,
made from the tables that the gateway itself works by, so that neither can say more than the code does.

`python -m lambent.gateway.parity > docs/parity.md` renews the page; a test compares it.
"""

import sys
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from lambent.gateway.field_rules import HOST, Emulated, Enforced, Fields, Recorded, Rule
from lambent.gateway.field_table import TABLE
from lambent.gateway.fields import BUILT, kind_of, leaves, rule_for
from lambent.gateway.protocol.model import operations

_INTRODUCTION = """\
# Parity with AWS Lambda

Generated from the code: `python -m lambent.gateway.parity > docs/parity.md`.
The server that runs serves the same at `/_lambent/parity`.

Every input field of every operation that is built is one of:

- **enforced**: it acts as on AWS; the test that shows it is named;
- **emulated**: it has its effect by other means, which are stated;
- **recorded**: it is accepted and given back, because it cannot matter here;
- **refused**: it is an error that says what is not done. Nothing is accepted and then ignored.
"""


def parity(handlers: Collection[str]) -> dict[str, Any]:
    """`handlers`: the names of the operations that have one. Answers, ready for JSON:
    {"summary": {"operations", "built", "fields": {class: count}},
    "operations": {name: {"built", "request", "fields": {path: {"class", "text", "accepts"?}}}}}."""
    rows: dict[str, Any] = {}
    counts: dict[str, int] = {}
    for name, operation in sorted(operations().items()):
        built = name in handlers
        fields = _fields(TABLE.get(name, {}), operation.fields) if built else {}
        for field in fields.values():
            counts[field["class"]] = counts.get(field["class"], 0) + 1
        rows[name] = {"built": built, "request": f"{operation.method} {operation.path}", "fields": fields}
    return {
        "summary": {
            "operations": len(rows),
            "built": sum(row["built"] for row in rows.values()),
            "fields": dict(sorted(counts.items())),
        },
        "operations": rows,
    }


def render(report: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _fields(table: Fields, paths: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    out: dict[str, dict[str, Any]] = {}
    for path in leaves(paths):
        rule = rule_for(table, path)
        # the field is in the model and not in the table: the checker refuses it
        out[path] = _row(rule) if rule else {"class": "refused", "text": "Newer than this Lambent."}
    return out


def _row(rule: Rule) -> dict[str, Any]:
    row: dict[str, Any] = {"class": kind_of(rule)}
    match rule:
        case Enforced(test):
            row["text"] = test
        case Emulated(text) | Recorded(text):
            row["text"] = text
        case _:
            message = rule.message.replace("{host}", "the host's")
            row["text"] = message[:1].upper() + message[1:]
            if rule.unless:
                row["accepts"] = ["[the host's]" if value is HOST else value for value in rule.unless]
    return row


def _lines(report: Mapping[str, Any]) -> Iterator[str]:
    yield _INTRODUCTION
    summary = report["summary"]
    counted = ", ".join(f"{count} {kind}" for kind, count in summary["fields"].items())
    yield f"{summary['built']} of {summary['operations']} operations are built; their fields: {counted}."
    for name, row in report["operations"].items():
        if row["built"]:
            yield from _operation_lines(name, row)
    yield "\n## Not built\n"
    yield "These answer 501 `NotImplementedException` with their name.\n"
    for name, row in report["operations"].items():
        if not row["built"]:
            yield f"- {name} (`{row['request']}`)"


def _operation_lines(name: str, row: Mapping[str, Any]) -> Iterator[str]:
    yield f"\n## {name}\n"
    yield f"`{row['request']}`\n"
    if not row["fields"]:
        yield "No input fields."
        return
    yield "| field | class | |"
    yield "|---|---|---|"
    for path, field in row["fields"].items():
        text = f"`{field['text']}`" if field["class"] == "enforced" else field["text"]
        if "accepts" in field:
            text += " Accepted: " + ", ".join(f"`{_literal(value)}`" for value in field["accepts"]) + "."
        yield f"| {path} | {field['class']} | {text} |"


def _literal(value: Any) -> str:
    match value:
        case "":
            return '""'
        case bool():
            return str(value).lower()
    return str(value)


if __name__ == "__main__":
    sys.stdout.write(render(parity(BUILT)))
