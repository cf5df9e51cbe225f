from pathlib import Path

from lambent.kernel.settings_page import page

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"


def test_the_committed_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: PYTHONPATH=kernel python -m lambent.kernel.settings_page"
