"""Java's regular expressions in Python."""

import sys
import unicodedata

import pytest

from lambent.gateway.protocol.model import service_model
from lambent.gateway.protocol.patterns import compile_java


def test_every_pattern_of_the_model_compiles() -> None:
    model = service_model()
    patterns = {
        shape.metadata["pattern"]
        for shape in (model.shape_for(name) for name in model.shape_names)
        if "pattern" in shape.metadata
    }
    assert len(patterns) > 50
    for pattern in patterns:
        compile_java(pattern)


def test_unicode_properties_in_a_class_are_exactly_the_categories() -> None:
    pattern = compile_java(r"([\p{L}\p{Z}\p{N}_.:/=+\-@]*)")
    for code in range(sys.maxunicode + 1):
        char = chr(code)
        expected = unicodedata.category(char)[0] in "LZN" or char in "_.:/=+-@"
        assert (pattern.fullmatch(char) is not None) is expected, hex(code)


@pytest.mark.parametrize(
    ("pattern", "text", "matches"),
    [
        (r"\p{Lu}+", "ÄB", True),
        (r"\p{Lu}+", "b", False),
        (r"\d{12}", "١٢٣٤٥٦٧٨٩٠١٢", False),  # \d is ASCII
        (r"[^\s]+", "a\u00a0b", True),  # \s is ASCII
        (r".*", "a\u2028b", False),
        (r".*", "a\nb", False),
        (r"a\.[.]", "a..", True),
        (r"a\.[.]", "ax.", False),
        (r"abc$", "abc\n", False),  # anchored on both sides
        (r"abc", "xabc", False),
        (r"(|[a-zA-Z0-9$_-]+)", "", True),
    ],
)
def test_matches_as_java_does(pattern: str, text: str, matches: bool) -> None:
    assert (compile_java(pattern).fullmatch(text) is not None) is matches
