"""The specification names tests that exist."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED = re.findall(r"`((?:unit|contract|integration|e2e)/[^`]+)`", (ROOT / "docs/SPECIFICATION.md").read_text())


def test_every_promise_names_tests_that_exist() -> None:
    assert len(NAMED) > 20
    missing = []
    for named in NAMED:
        file, _, function = named.partition("::")
        path = ROOT / "tests" / file
        if not path.is_file() or (function and f"def {function}(" not in path.read_text()):
            missing.append(named)
    assert missing == []
