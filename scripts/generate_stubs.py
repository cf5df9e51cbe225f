"""`make proto`: the Python stubs of proto/**/*.proto, beside them; committed, so that an install needs no
compiler. A file without a service gets no gRPC stub: whoever reads its messages needs no grpc.

`python scripts/generate_stubs.py [FOLDER]`; a test generates into another folder and compares.
"""

import sys
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

PROTO = Path(__file__).parents[1] / "proto"


def generate(into: Path) -> int:
    """protoc's exit code."""
    paths = sorted(PROTO.rglob("*.proto"))
    sources = [str(path.relative_to(PROTO)) for path in paths]
    services = [str(path.relative_to(PROTO)) for path in paths if "\nservice " in path.read_text()]
    well_known = Path(grpc_tools.__file__).parent / "_proto"
    common = ["protoc", f"-I{PROTO}", f"-I{well_known}"]
    code: int = protoc.main([*common, f"--python_out={into}", f"--pyi_out={into}", *sources])
    if code == 0:
        code = protoc.main([*common, f"--grpc_python_out={into}", *services])
    return code


if __name__ == "__main__":
    raise SystemExit(generate(Path(sys.argv[1]) if len(sys.argv) > 1 else PROTO))
