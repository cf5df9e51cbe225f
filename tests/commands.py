"""The command `lambent` as a person runs it: a process of its own, its output in a pipe."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any


class Command:
    """Runs `lambent`; `environment` is all it gets beside PATH and HOME."""

    def __init__(self, home: Path, **environment: str) -> None:
        self._environment = {"PATH": os.environ["PATH"], "HOME": str(home), "COLUMNS": "60", **environment}

    def popen(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "lambent.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=self._environment,
            text=True,
            **options,
        )

    def raw(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """With the output byte by byte."""
        command = [sys.executable, "-m", "lambent.cli", *arguments]
        return subprocess.run(command, capture_output=True, env=self._environment, timeout=90, check=False)

    def __call__(self, *arguments: str, code: int = 0, given: str | None = None) -> "Said":
        with self.popen(*arguments, stdin=subprocess.PIPE) as process:
            out, err = process.communicate(given, timeout=90)
        assert "Traceback" not in err, err
        assert process.returncode == code, f"{process.returncode}\n{out}\n{err}"
        return Said(out, err)


class Said:
    def __init__(self, out: str, err: str) -> None:
        self.out = out
        self.err = err
