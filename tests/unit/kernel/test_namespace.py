"""`lambent` is one namespace package over several source roots; one `__init__.py` hides the other roots."""

from pathlib import Path

ROOT = Path(__file__).parents[3]
# `from lambent.client import Client`: one root alone has that package, so that it hides nothing.
PUBLIC = "client/lambent/client/__init__.py"


def test_no_init_file_under_lambent() -> None:
    roots = [root for root in ROOT.glob("*/lambent") if root.is_dir()]
    assert len(roots) >= 3, "the source roots were not found"
    found = [str(path.relative_to(ROOT)) for root in roots for path in root.rglob("__init__.py")]
    assert found == [PUBLIC]
