"""The X-Ray header of an invocation: what the function sees of it, and what the caller is answered.

AWS: "X-Ray tracing header"; a caller's own is passed on, else one is made that is not sampled.
"""

import re
import time

from lambent.kernel.tracing import new_header

_ROOT = re.compile(r"(?:^|;)\s*root=1-[0-9a-f]{8}-[0-9a-f]{24}\s*(?:;|$)", re.IGNORECASE)


def trace_of(given: str | None) -> str:
    """The caller's header; a new one where there is none, or none that names a trace."""
    if given is not None and _ROOT.search(given):
        return given
    return new_header(time.time())


def answered(trace: str) -> str:
    """`root=...;sampled=0|1[;lineage=...]`, of a header of `trace_of`."""
    parts = (part.partition("=") for part in trace.split(";"))
    named = {name.strip().lower(): value.strip() for name, _, value in parts}
    text = f"root={named['root']};sampled={'1' if named.get('sampled') == '1' else '0'}"
    return f"{text};lineage={named['lineage']}" if named.get("lineage") else text
