"""The two sides of an isolation test: attempts inside a function in one invocation, and the same ones on the
host as root, the control. What a side answers is read by name, so that each attempt is a test of its own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from running import Functions
from support import require

_HERE = Path(__file__).parent
_SOMEBODY = 64_321
CODE = {
    "app.py": (_HERE / "isolation_attempts.py").read_bytes(),
    "isolation_calls.py": (_HERE / "isolation_calls.py").read_bytes(),
}
Attempts = Mapping[str, Mapping[str, Any]]
Outcomes = Mapping[str, list[Any]]


def need_root() -> None:
    """Controls show that the host would let root do it."""
    require(
        "root", os.geteuid() == 0, "the controls of isolation tests do what only root may: run them as root"
    )


def on_host(attempts: Attempts, *, network_of: int | None = None, through: Sequence[str] = ()) -> Outcomes:
    """What the attempts do on the host, as whoever runs the tests; `network_of`: in the network of the process
    with this pid; `through`: a command that becomes it, as that of `ordinary_user`."""
    enter = ["nsenter", "-t", str(network_of), "-n"] if network_of is not None else []
    ran = subprocess.run(
        [*through, *enter, sys.executable, str(_HERE / "isolation_attempts.py")],
        input=json.dumps(attempts).encode(),
        stdout=subprocess.PIPE,
        timeout=90,
        check=True,
        cwd="/",
    )
    outcomes: Outcomes = json.loads(ran.stdout)
    return outcomes


def inside(functions: Functions, attempts: Attempts, **members: Any) -> Outcomes:
    """What the attempts do in a function; `members` of CreateFunction."""
    name = functions.create(CODE, **{"MemorySize": 512, "Timeout": 110, **members})
    try:
        answer = functions.invoke(name, attempts)
        assert answer.error is None, f"{answer.payload!r}\n{answer.log}"
        outcomes: Outcomes = answer.result
        return outcomes
    finally:
        functions.aws.delete_function(FunctionName=name)


def ordinary_user() -> tuple[int, tuple[str, ...]]:
    """(uid, command that becomes it) of an ordinary user: whoever runs the tests, or, where that is root,
    a uid that nobody else has, shown the interpreter and the clone."""
    if os.geteuid() != 0:
        return os.geteuid(), ()
    became = (
        sys.executable,
        str(_HERE / "as_user.py"),
        str(_SOMEBODY),
        sys.base_prefix,
        str(_HERE.parent),
        "--",
    )
    tried = subprocess.run(
        [*became, sys.executable, "-c", "import lambent.cli"], capture_output=True, text=True
    )
    require(
        "another user", tried.returncode == 0, f"the interpreter does not run as one: {tried.stderr[-500:]}"
    )
    return _SOMEBODY, became


def halves(value: bytes) -> list[str]:
    """A value in two halves, as the attempts that search for one take it."""
    middle = len(value) // 2
    return [value[:middle].hex(), value[middle:].hex()]


def processes_of(function: str) -> dict[int, dict[str, str]]:
    """{pid: fields of /proc/PID/status} of the host's processes that run in environments of a function."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            if f"AWS_LAMBDA_FUNCTION_NAME={function}".encode() in variables:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                found[int(pid)] = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        except OSError:
            continue  # it ended meanwhile
    return found
