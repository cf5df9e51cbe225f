r"""The model's regular expressions are Java's; this makes Python's of them, once, because the two differ just
where names from outside are let in.

Java's `matches` is anchored on both sides, its `\d`, `\w` and `\s` know ASCII only, its `.` stops at every line
end, and it has `\p{L}`, which Python's `re` has not.
"""

import functools
import re
import sys
import unicodedata

_PROPERTY = re.compile(r"\\p\{(\w+)\}")
_JAVA_LINE_ENDS = "\n\r\u0085\u2028\u2029"


@functools.cache
def compile_java(pattern: str) -> re.Pattern[str]:
    """To be used with `fullmatch`. Raises re.error for what Python can't say."""
    translated = _PROPERTY.sub(_property, pattern)
    return re.compile(_dots(translated), re.ASCII)


def _dots(pattern: str) -> str:
    """Each `.` outside of a class and not escaped stops at Java's line ends, not at Python's only one."""
    out: list[str] = []
    in_class = escaped = False
    for char in pattern:
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "[" and not in_class:
            in_class = True
        elif char == "]" and in_class:
            in_class = False
        elif char == "." and not in_class:
            char = f"[^{_JAVA_LINE_ENDS}]"
        out.append(char)
    return "".join(out)


def _property(found: re.Match[str]) -> str:
    name = found[1]
    ranges = "".join(ranges for category, ranges in _categories().items() if category.startswith(name))
    if not ranges:
        raise re.error(f"unknown Unicode category {name}", found.string, found.start())
    # `\p{..}` may stand in a class, as it does in AWS's model, or alone
    return ranges if _inside_class(found.string, found.start()) else f"[{ranges}]"


def _inside_class(pattern: str, position: int) -> bool:
    before = re.sub(r"\\.", "", pattern[:position])
    return before.rfind("[") > before.rfind("]")


@functools.cache
def _categories() -> dict[str, str]:
    """Every Unicode category as the ranges of a character class; one pass over all characters, at start."""
    ranges: dict[str, list[str]] = {}
    start, current = 0, unicodedata.category("\0")
    for code in range(1, sys.maxunicode + 2):
        category = unicodedata.category(chr(code)) if code <= sys.maxunicode else ""
        if category != current:
            ranges.setdefault(current, []).append(_range(start, code - 1))
            start, current = code, category
    return {category: "".join(parts) for category, parts in ranges.items()}


def _range(first: int, last: int) -> str:
    return f"\\U{first:08x}" if first == last else f"\\U{first:08x}-\\U{last:08x}"
