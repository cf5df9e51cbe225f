"""Makes docs/metrics.md's table from the metrics themselves, so that the page cannot say something else.

`PYTHONPATH=kernel .venv/bin/python -m lambent.kernel.metrics_page docs/metrics.md`; a test compares.
"""

import sys
from pathlib import Path

from lambent.kernel import metrics

BEGIN, END = "<!-- made by lambent.kernel.metrics_page -->\n", "<!-- end -->\n"


def table() -> str:
    """Markdown rows by name."""
    rows = [
        f"| `{name}` | {kind} | {', '.join(f'`{label}`' for label in labels)} | {text} |\n"
        for name, kind, text, labels in sorted(map(metrics.described, metrics.declared()))
    ]
    return "| metric | type | labels | what |\n|---|---|---|---|\n" + "".join(rows)


def renewed(page: str) -> str:
    """The page with the table of today."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(renewed(path.read_text()))
