"""Finding a function's handler in a folder of Python, so that the first deploy needs no flag: a module at the
top with a function of two parameters named `handler` or `lambda_handler`.

Files are parsed, never imported: a deploy runs nobody's code.
"""

import ast
import sys
from pathlib import Path

from lambent.cli.client import Failed

_NAMES = ("handler", "lambda_handler")
_MODULES = ("app", "lambda_function", "handler", "main", "index")


def handler_for(folder: Path, *, asked: str | None, stored: str | None) -> str:
    """The handler to deploy with: the one that was asked for, else the one that the function has, as long as
    the code still has it, else the one that is found. Raises Failed."""
    if asked is not None:
        return asked
    if stored is None:
        return find_handler(folder)
    path, name = _parts(folder, stored)
    try:
        if path.is_file() and name in _functions(path):
            return stored
        return find_handler(folder)
    except Failed:
        if path.is_file():  # made in a way that parsing does not show
            return stored
        raise


def named_handler(runtime: str, named: str | None) -> str:
    """The handler of a function that is not in Python: nobody looks for one. Raises Failed."""
    if named:
        return named
    if runtime.startswith("provided."):
        return "bootstrap"
    raise Failed(f"name the handler of a {runtime} function with --handler, as in index.handler.")


def find_handler(folder: Path) -> str:
    """`module.function` of the one handler in a folder. Raises Failed if there is none or several, or where a
    file that may have it is broken."""
    found, broken = [], {}
    for path in sorted(folder.glob("*.py")):
        try:
            names = _functions(path)
        except Failed as failure:
            broken[path.stem] = str(failure)
        else:
            found += [f"{path.stem}.{name}" for name in _NAMES if name in names]
    usual = [entry for entry in found if entry.split(".")[0] in _MODULES]
    if broken and (not found or (not usual and not broken.keys().isdisjoint(_MODULES))):
        raise Failed(
            f"no handler in {folder}: {'; '.join(broken.values())}. "
            "Correct it, or name yours with --handler FILE.FUNCTION."
        )
    if not found:
        raise Failed(
            f"no handler in {folder}: no *.py there defines handler(event, context) or lambda_handler. "
            "Name yours with --handler FILE.FUNCTION."
        )
    chosen = usual if len(usual) == 1 else found
    if len(chosen) > 1:
        raise Failed(f"several handlers in {folder}: {', '.join(chosen)}. Choose one with --handler.")
    return chosen[0]


def _parts(folder: Path, handler: str) -> tuple[Path, str]:
    """The file and the function of a handler, whose module may be written with dots or slashes."""
    module, _, name = handler.rpartition(".")
    return folder / f"{module.replace('.', '/')}.py", name


def _functions(path: Path) -> set[str]:
    """What a file defines that may be a handler. Raises Failed with the file, the line and what is wrong."""
    try:
        tree = ast.parse(path.read_bytes(), str(path))
    except SyntaxError as failure:
        line = f" line {failure.lineno}" if failure.lineno else ""
        # A newer Python, which the function may run on, may take it.
        ours = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise Failed(f"{path.name}{line}: {failure.msg} (as Python {ours} reads it)") from None
    except (ValueError, RecursionError) as failure:
        raise Failed(f"{path.name}: {failure}") from None
    except OSError as failure:
        raise Failed(f"{path.name} can't be read: {failure.strerror}") from None
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
