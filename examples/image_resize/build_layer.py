"""Builds the layer with Pillow: `python build_layer.py [layer.zip] [--python 3.11]`.

A layer is a zip that Lambda unpacks to /opt; Python finds what lies in its folder `python/`. The zip is the
same, byte for byte, whenever the same version of Pillow is packed, so publishing it again changes nothing.
"""

import argparse
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

_EARLIEST = (1980, 1, 1, 0, 0, 0)
REQUIREMENTS = ("pillow>=11",)


def build(target: Path, *, python: str) -> None:
    """Writes the zip for Python `python` ("3.11"). Raises RuntimeError with pip's last lines."""
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder) / "python"
        command = [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"),
            *("--no-compile", "--only-binary", ":all:", "--python-version", python, "--target", str(tree)),
            *REQUIREMENTS,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = "\n".join(done.stderr.strip().splitlines()[-5:])
            raise RuntimeError(f"pip could not fetch Pillow for Python {python}:\n{last}")
        _pack(Path(folder), target)


def _pack(folder: Path, target: Path) -> None:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in files:
            entry = zipfile.ZipInfo(str(path.relative_to(folder)), _EARLIEST)
            entry.compress_type = zipfile.ZIP_DEFLATED
            executable = path.stat().st_mode & 0o100
            entry.external_attr = (0o100755 if executable else 0o100644) << 16
            archive.writestr(entry, path.read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", nargs="?", type=Path, default=Path("layer.zip"))
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    options = parser.parse_args()
    try:
        build(options.target, python=options.python)
    except RuntimeError as failure:
        sys.exit(f"{failure}\nIs the package index reachable? See `pip config list`.")
    print(f"{options.target}: {options.target.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
