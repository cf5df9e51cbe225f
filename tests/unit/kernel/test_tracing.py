"""tracing.py: the arithmetic of headers, and that nothing is loaded while tracing is off."""

import subprocess
import sys

import pytest

from lambent.cli.client import Failed
from lambent.cli.wiring import make_tracer
from lambent.kernel import tracing
from lambent.kernel.settings import Settings
from lambent.kernel.tracing import Context, context_of, joined, new_header, under

TRACE, SPAN = "5759e988bd862e3fe1be46a994272793", "53995c3f42cd8ad8"
ROOT = f"Root=1-{TRACE[:8]}-{TRACE[8:]}"


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (f"{ROOT};Parent={SPAN};Sampled=1", Context(TRACE, SPAN, True)),
        (f"Sampled=0;{ROOT.upper()} ; parent={SPAN.upper()}", Context(TRACE, SPAN, False)),
        (ROOT, Context(TRACE, None, None)),
        (f"{ROOT};Parent=none;Sampled=?", Context(TRACE, None, None)),
        (f"{ROOT};Parent={'0' * 16}", Context(TRACE, None, None)),
        (f"Root=1-{'0' * 8}-{'0' * 24}", None),
        ("Root=2-nonsense", None),
        ("Lineage=aaaaaaaa:1", None),
        ("", None),
    ],
)
def test_what_a_header_says(header: str, expected: Context | None) -> None:
    assert context_of(header) == expected


def test_what_else_is_in_a_header_stays() -> None:
    made = under(f"Self=x;{ROOT};Parent=old;Sampled=0;Lineage=a:1", Context(TRACE, SPAN, True))
    assert made == f"{ROOT};Parent={SPAN};Sampled=1;Self=x;Lineage=a:1"
    assert under("", Context(TRACE, None, None)) == ROOT


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        "",
        "garbage",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE.upper()}-{SPAN}-01",
    ],
)
def test_a_traceparent_that_is_none_changes_nothing(traceparent: str | None) -> None:
    assert joined("Root=other", traceparent) == "Root=other"
    assert joined(None, traceparent) is None


def test_a_traceparent_is_the_trace_and_the_lineage_stays() -> None:
    other = "Root=1-00000001-" + "a" * 24 + ";Parent=1111111111111111;Sampled=0;Lineage=a:1"
    assert joined(other, f"00-{TRACE}-{SPAN}-01") == f"{ROOT};Parent={SPAN};Sampled=1;Lineage=a:1"
    assert joined(None, f"00-{TRACE}-{SPAN}-00") == f"{ROOT};Parent={SPAN};Sampled=0"
    assert joined(None, f"cc-{TRACE}-{SPAN}-03-of-later") == f"{ROOT};Parent={SPAN};Sampled=1"


def test_a_new_header_is_not_sampled_while_tracing_is_off() -> None:
    found = context_of(new_header(1_769_860_800.0))
    assert found is not None and found.parent is not None
    assert (found.trace_id[:8], found.sampled) == ("697deec0", False)


async def test_work_is_done_as_it_is_while_tracing_is_off() -> None:
    async def work(header: str) -> str:
        return header

    assert tracing.active is None
    assert await tracing.timed("name", "as it was", work) == "as it was"
    tracing.note("name", "", began=0.0, attributes={})


def test_nothing_is_imported_while_it_is_off() -> None:
    code = (
        "import sys; from lambent.cli import up, wiring; from lambent.kernel.settings import Settings;"
        "assert wiring.make_tracer(Settings()) is None;"
        # redis-py imports the SDK where it is installed; the exporter and its HTTP client are ours alone.
        "ours = ('lambent.kernel.tracing_otel', 'opentelemetry.exporter');"
        "sys.exit([name for name in sys.modules if name.startswith(ours)] or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lambent.kernel.tracing_otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.context", None)
    with pytest.raises(Failed, match=r"pip install 'lambent\[otel\]'"):
        make_tracer(Settings(otlp_endpoint="http://127.0.0.1:4318"))


@pytest.mark.parametrize("wrong", ["127.0.0.1:4318", "ftp://host", "http://"])
def test_an_endpoint_that_is_no_url_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError, match=r"as http://127\.0\.0\.1:4318"):
        Settings(otlp_endpoint=wrong)
