"""`make proto`: the Python stubs of proto/**/*.proto, beside them; committed, so that an install needs no
compiler.

`python scripts/generate_stubs.py [FOLDER]`; a test generates into another folder and compares.
"""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).parents[1] / "proto"


def generate(into: Path) -> int:
    """protoc's exit code."""
    sources = sorted(str(path.relative_to(PROTO)) for path in PROTO.rglob("*.proto"))
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    options = [f"--{kind}_out={into}" for kind in ("python", "pyi", "grpc_python")]
    code: int = protoc.main(["protoc", f"-I{PROTO}", f"-I{well_known}", *options, *sources])
    return code


if __name__ == "__main__":
    raise SystemExit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO))
