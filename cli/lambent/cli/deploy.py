"""`lambent deploy DIR`: from a folder with code to a function that is Active, because the first minutes decide
whether a tool is kept.

It finds the handler (a module with a function of two parameters named `handler` or `lambda_handler`) and the
runtime, installs requirements.txt into the package, zips reproducibly, creates or updates, and waits.
"""

import ast
import io
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lambent.cli.aws import Lambda
from lambent.cli.client import Failed

_SKIP_FOLDERS = {
    "__pycache__",
    ".git",
    ".venv",
    "venv",
    "node_modules",
    ".aws-sam",
    ".mypy_cache",
    ".pytest_cache",
}
_SKIP_ENDINGS = (".pyc", ".pyo")
_NAMES = ("handler", "lambda_handler")
_MODULES = ("app", "lambda_function", "handler", "main", "index")
_ROLE = "arn:aws:iam::{account}:role/lambent"
_MAX_ZIP = 50 * 1024 * 1024


def find_handler(folder: Path) -> str:
    """`module.function` of the one handler in a folder of Python. Raises Failed if there is none or several."""
    found = [
        f"{path.stem}.{name}"
        for path in sorted(folder.glob("*.py"))
        for name in _NAMES
        if name in _functions(path)
    ]
    if not found:
        raise Failed(
            f"no handler in {folder}: no *.py there defines handler(event, context) or lambda_handler. "
            "Name yours with --handler FILE.FUNCTION."
        )
    usual = [entry for entry in found if entry.split(".")[0] in _MODULES]
    chosen = usual if len(usual) == 1 else found
    if len(chosen) > 1:
        raise Failed(f"several handlers in {folder}: {', '.join(chosen)}. Choose one with --handler.")
    return chosen[0]


def _functions(path: Path) -> set[str]:
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except (SyntaxError, ValueError, OSError):
        return set()  # the server will say it, if this is the one
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            takes_two = len(node.args.posonlyargs) + len(node.args.args) >= 2 or node.args.vararg is not None
            names |= {node.name} if takes_two else set()
        elif isinstance(node, ast.Assign):  # handler = Mangum(app), handler = decorate(f)
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign) and node.value is not None and isinstance(node.target, ast.Name):
            names.add(node.target.id)
        elif isinstance(node, ast.ImportFrom):  # from package.work import handler
            names |= {alias.asname or alias.name for alias in node.names}
    return names


def default_runtime() -> str:
    """The runtime of the Python that runs this command."""
    return f"python{sys.version_info.major}.{sys.version_info.minor}"


def package(folder: Path, runtime: str) -> bytes:
    """The zip of a folder, with what its requirements.txt names installed at its top."""
    with tempfile.TemporaryDirectory(prefix="lambent-deploy-") as scratch:
        roots = [folder]
        requirements = folder / "requirements.txt"
        if requirements.is_file() and requirements.read_text().strip():
            _install(requirements, Path(scratch), runtime)
            roots.insert(0, Path(scratch))
        data = _zip(roots)
    if len(data) > _MAX_ZIP:
        raise Failed(
            f"the package is {len(data) / 2**20:.0f} MB; a direct upload may have 50. Put large dependencies "
            "into a layer, or upload the zip to S3 and use `aws lambda create-function --code S3Bucket=...`."
        )
    return data


def _install(requirements: Path, target: Path, runtime: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(target), "-r", str(requirements)]
    if runtime != default_runtime():
        command += ["--python-version", runtime.removeprefix("python"), "--only-binary=:all:"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise Failed(f"requirements.txt could not be installed:\n{done.stderr.strip()}")


def _zip(roots: list[Path]) -> bytes:
    buffer = io.BytesIO()
    entries: dict[str, Path] = {}
    for root in roots:  # later roots win: a person's own file over a dependency's
        entries.update((path.relative_to(root).as_posix(), path) for path in _files(root))
    if not entries:
        raise Failed(f"{roots[-1]} has no files to deploy.")
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in sorted(entries.items()):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = (0o755 if os.access(path, os.X_OK) else 0o644) << 16
            try:
                archive.writestr(entry, path.read_bytes())
            except OSError as failure:
                raise Failed(f"{path} can't be read: {failure.strerror}. Correct it, or remove it.") from None
    return buffer.getvalue()


def _files(root: Path) -> Iterator[Path]:
    for folder, names, files in os.walk(root):
        names[:] = sorted(name for name in names if name not in _SKIP_FOLDERS)
        for name in sorted(files):
            path = Path(folder) / name
            if not name.endswith(_SKIP_ENDINGS) and path.is_file():
                yield path


def create_or_update(
    aws: Lambda, name: str, code: bytes, *, configuration: Mapping[str, Any], create_only: Mapping[str, Any]
) -> tuple[bool, list[str]]:
    """Creates the function or updates its code and configuration, and waits until it is done.
    (created, warnings of the server)."""
    warnings: list[str] = []

    def warned(answer: Mapping[str, Any]) -> None:
        headers = answer["ResponseMetadata"]["HTTPHeaders"]
        if "x-lambent-warning" in headers:
            warnings.append(headers["x-lambent-warning"])

    with aws.errors():
        if aws.configuration(name) is None:
            warned(
                aws.client.create_function(
                    FunctionName=name, Code={"ZipFile": code}, **{**create_only, **configuration}
                )
            )
            aws.client.get_waiter("function_active_v2").wait(
                FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120}
            )
            return True, warnings
        waiter = aws.client.get_waiter("function_updated_v2")
        warned(aws.client.update_function_code(FunctionName=name, ZipFile=code))
        waiter.wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
        if configuration:
            warned(aws.client.update_function_configuration(FunctionName=name, **configuration))
            waiter.wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    return False, warnings


def default_role(account: str) -> str:
    """A role ARN for functions whose person named none: roles have no effect yet."""
    return _ROLE.format(account=account)
