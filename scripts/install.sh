#!/bin/sh
# Prepares .venv with lambent, its extras and what its tests need. Safe to run again: it does only what is missing.
# As root it installs the Debian packages below, after saying so; an ordinary user is told the one command.
# --tests: what only tests need, too.
set -eu
cd "$(dirname "$0")/.."

PACKAGES="python3-venv nftables e2fsprogs slirp4netns iproute2"
# For tests alone: a broker that they start themselves, version 2 of AWS's CLI (PyPI has version 1), and what functions
# of other languages than Python are tested with.
TEST_PACKAGES="rabbitmq-server awscli ruby curl"
# For tests too, but no more than their files: unpacked into .venv/debian, by an ordinary user as well.
UNPACKED="prometheus docker-registry"
POLICY=/usr/sbin/policy-rc.d

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

# No package may start a service of its own.
without_services() {
    if [ ! -e "$POLICY" ]; then
        printf '#!/bin/sh\nexit 101\n' > "$POLICY"
        chmod 755 "$POLICY"
        trap 'rm -f "$POLICY"' EXIT INT TERM
    fi
    "$@"
}

# install_packages LIST MISSING...
install_packages() {
    list=$1
    shift
    if ! has apt-get; then
        echo "Not installed: $*. There is no apt-get here; install them as this system does."
    elif [ "$(id -u)" != 0 ]; then
        echo "Not installed: $*. To have everything, run as root: apt-get install $list"
    else
        echo "Installing Debian packages: $list"
        export DEBIAN_FRONTEND=noninteractive
        # shellcheck disable=SC2086
        { apt-get update -qq && without_services apt-get install -qq -y --no-install-recommends $list >/dev/null; } ||
            echo "apt-get failed; going on without: $*"
    fi
}

tests=${1:-}
missing=""
has nft || missing="$missing nftables"
has mkfs.ext4 || missing="$missing e2fsprogs"
has slirp4netns || missing="$missing slirp4netns"
has ip || missing="$missing iproute2"
find_python >/dev/null || missing="$missing python3-venv"
# shellcheck disable=SC2086
[ -z "$missing" ] || install_packages "$PACKAGES" $missing

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
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[s3,grpc,otel]' --group dev
    echo "$stamp" > .venv/installed
fi

unpack_for_tests() {
    echo "Unpacking Debian packages into .venv/debian, for tests alone: $UNPACKED"
    debian=$(pwd)/.venv/debian
    mkdir -p "$debian/archives"
    [ "$(id -u)" != 0 ] || apt-get update -qq || echo "apt-get update failed; going on with what is known"
    # shellcheck disable=SC2086
    (cd "$debian/archives" && apt-get download -qq $UNPACKED 2>/dev/null) || return 1
    for archive in "$debian"/archives/*.deb; do dpkg -x "$archive" "$debian" || return 1; done
    rm -r "$debian/archives"
    echo "$UNPACKED" > "$debian/unpacked"
}

if [ "$tests" = --tests ]; then
    missing=""
    has rabbitmq-server || missing="$missing rabbitmq-server"
    [ -x /usr/bin/aws ] || missing="$missing awscli"
    has ruby || missing="$missing ruby"
    has curl || missing="$missing curl"
    # shellcheck disable=SC2086
    [ -z "$missing" ] || install_packages "$TEST_PACKAGES" $missing
    # The broker's service stays off at the next boot as well.
    case "$missing" in *rabbitmq*)
        if [ "$(id -u)" = 0 ] && has systemctl; then
            systemctl disable --quiet rabbitmq-server epmd.socket epmd.service >/dev/null 2>&1 || true
        fi ;;
    esac
    if [ "$(cat .venv/debian/unpacked 2>/dev/null)" != "$UNPACKED" ]; then
        { has apt-get && unpack_for_tests; } || echo "Not unpacked: $UNPACKED; tests that need them are skipped"
    fi
fi
echo "Ready: .venv/bin/lambent --help"
