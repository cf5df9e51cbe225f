"""The parity report and its page."""

import json
from pathlib import Path

from lambent.gateway.fields import BUILT
from lambent.gateway.parity import parity, render

PAGE = Path(__file__).parents[3] / "docs" / "parity.md"


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text() == render(parity(BUILT)), "python -m lambent.gateway.parity > docs/parity.md"


def test_the_report_is_json_and_names_every_operation() -> None:
    report = json.loads(json.dumps(parity(["Invoke"])))
    assert report["summary"]["built"] == 1
    assert report["summary"]["operations"] == len(report["operations"]) > 90
    assert report["operations"]["CreateFunction"] == {
        "built": False,
        "request": "POST /2015-03-31/functions",
        "fields": {},
    }
    invoke = report["operations"]["Invoke"]
    assert invoke["built"] is True
    assert invoke["fields"]["Qualifier"]["class"] == "enforced"
    assert invoke["fields"]["TenantId"]["class"] == "refused"
    create = parity(["CreateFunction"])["operations"]["CreateFunction"]
    assert create["fields"]["SnapStart.ApplyOn"]["class"] == "enforced"


def test_a_built_operation_without_a_table_shows_its_fields_as_refused() -> None:
    fields = parity(["AddPermission"])["operations"]["AddPermission"]["fields"]
    assert {field["class"] for field in fields.values()} == {"refused"}
