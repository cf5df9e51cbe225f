"""The commands `lambent` and `aws` as a person runs them: processes of their own, their output in a pipe."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from running import Server


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


class AwsLambda:
    """`aws lambda ...` with the lines that a server's banner says to export, and nothing else."""

    def __init__(self, server: Server, home: Path) -> None:
        self.folder = home
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            **server.exports(),
        }

    def __call__(self, *arguments: str) -> Any:
        done = subprocess.run(
            [str(Path(sys.executable).with_name("aws")), "lambda", *arguments],
            env=self._environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.strip() else None
