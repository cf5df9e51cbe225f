"""How an environment with external extensions is started: by a launcher, in our own Python, that starts them
and then the runtime. AWS starts every file of /opt/extensions."""

import json
import os
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from lambent.executor import extension_launcher
from lambent.executor.runtimes.family import RuntimeCommand

FOLDER = "extensions"
# AWS: extensions get the function's variables but for these.
DROPPED = (
    "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_LOG_GROUP_NAME",
    "AWS_LAMBDA_LOG_STREAM_NAME",
    "AWS_XRAY_CONTEXT_MISSING",
    "AWS_XRAY_DAEMON_ADDRESS",
    "LAMBDA_RUNTIME_DIR",
    "LAMBDA_TASK_ROOT",
    "_AWS_XRAY_DAEMON_ADDRESS",
    "_AWS_XRAY_DAEMON_PORT",
    "_HANDLER",
    "_X_AMZN_TRACE_ID",
)


def external(opt: Path | None) -> Sequence[str]:
    """The names of the extensions of an unpacked /opt; what is in folders is not one."""
    if opt is None:
        return ()
    try:
        with os.scandir(opt / FOLDER) as entries:
            return sorted(entry.name for entry in entries if entry.is_file())
    except (FileNotFoundError, NotADirectoryError):
        return ()


def command(runtime: RuntimeCommand, names: Sequence[str]) -> tuple[Sequence[str], Sequence[Path]]:
    """(argv, prefixes) of an environment with these extensions."""
    given = {
        "runtime": list(runtime.argv),
        "extensions": [f"/opt/{FOLDER}/{name}" for name in names],
        "dropped": DROPPED,
    }
    executable, prefix = _python()
    argv = (str(executable), "-I", "-S", "-c", _source(), json.dumps(given))
    return argv, (*runtime.prefixes, prefix)


@cache
def _source() -> str:
    return Path(extension_launcher.__file__).read_text(encoding="utf-8")


@cache
def _python() -> tuple[Path, Path]:
    """Our own interpreter, by its real path, and the folder that it lives in."""
    return Path(os.path.realpath(sys.executable)), Path(os.path.realpath(sys.base_prefix))
