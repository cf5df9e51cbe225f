#!/bin/sh
# Prepares .venv with lambent, its extras and what its tests need. Safe to run again: it does only what is missing.
# As root it installs the Debian packages below, after saying so; an ordinary user is told the one command.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="python3-venv nftables e2fsprogs slirp4netns iproute2"

has() { command -v "$1" >/dev/null 2>&1 || [ -x "/usr/sbin/$1" ] || [ -x "/sbin/$1" ]; }

# A version manager leaves shims that fail: a candidate counts only if it runs, is new enough and can make a venv.
find_python() {
    for candidate in "${PYTHON:-}" python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3.11 /usr/bin/python3; do
        [ -n "$candidate" ] || continue
        if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

missing=""
has nft || missing="$missing nftables"
has mkfs.ext4 || missing="$missing e2fsprogs"
has slirp4netns || missing="$missing slirp4netns"
has ip || missing="$missing iproute2"
find_python >/dev/null || missing="$missing python3-venv"

if [ -n "$missing" ] && has apt-get; then
    if [ "$(id -u)" = 0 ]; then
        echo "Installing Debian packages: $PACKAGES"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        { apt-get update -qq && apt-get install -qq -y --no-install-recommends $PACKAGES >/dev/null; } ||
            echo "apt-get failed; going on without:$missing"
    else
        echo "Not installed:$missing. To have everything, run as root: apt-get install $PACKAGES"
    fi
fi

PYTHON=$(find_python) || {
    echo "error: no Python 3.11 or newer with the venv module. Run as root: apt-get install python3-venv" >&2
    exit 1
}

# A moved or half-made venv fails here and is made again.
if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    echo "Making .venv with $PYTHON"
    rm -rf .venv
    "$PYTHON" -m venv .venv
fi
stamp=$(cksum pyproject.toml scripts/install.sh | cksum | cut -d' ' -f1)
if [ "$(cat .venv/installed 2>/dev/null)" != "$stamp" ]; then
    echo "Installing Lambent and its tools into .venv (a minute the first time)"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[s3,grpc]' --group dev
    echo "$stamp" > .venv/installed
fi
echo "Ready: .venv/bin/lambent --help"
