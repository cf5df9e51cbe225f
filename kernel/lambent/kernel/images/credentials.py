"""The passwords of registries, from where `docker login`, `skopeo login` and `podman login` leave them.

~/.docker/config.json, or the file that REGISTRY_AUTH_FILE names; a password that a credential helper keeps is
asked of it: https://github.com/docker/docker-credential-helpers.
"""

import base64
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from lambent.kernel.images.source import member
from lambent.kernel.log import Log

_log = Log(__name__)
_HELPER = re.compile(r"[\w.-]+", re.ASCII)
_HELPER_SECONDS = 10.0
HUB = "docker.io"  # as its images are called; their registry has another name, and their password a third one
_HUB_ENTRY = "https://index.docker.io/v1/"


def basic(host: str) -> str | None:
    """As Basic authorization has it; None if nobody has logged in there. May take seconds."""
    named = os.environ.get("REGISTRY_AUTH_FILE")
    folder = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    path = Path(named) if named else folder / "config.json"
    try:
        config = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    names = [host, f"https://{host}", f"https://{host}/v1/"]
    if host == HUB:
        names.insert(0, _HUB_ENTRY)
    own = [(name, member(config, "credHelpers", name)) for name in names]
    helper = next(((name, each) for name, each in own if each), (names[0], member(config, "credsStore")))
    if isinstance(helper[1], str) and _HELPER.fullmatch(helper[1]):
        asked = _asked(helper[1], helper[0])
        if asked is not None:
            return asked
    return next((auth for name in names if (auth := _auth(member(config, "auths", name, "auth")))), None)


def _auth(given: Any) -> str | None:
    try:
        return given if isinstance(given, str) and base64.b64decode(given, validate=True) else None
    except ValueError:
        return None


def _asked(helper: str, name: str) -> str | None:
    """What a helper has. Without an answer the registry is asked without a password, as Docker does."""
    program = f"docker-credential-{helper}"
    try:
        done = subprocess.run(
            [program, "get"],
            input=name.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_HELPER_SECONDS,
            check=False,
        )
        said = json.loads(done.stdout) if done.returncode == 0 else None
    except (OSError, ValueError, RecursionError, subprocess.TimeoutExpired) as failure:
        # Nothing of what it said: it may be a password.
        _log.warning("A credential helper has no answer.", helper=program, why=type(failure).__name__)
        return None
    user, secret = member(said, "Username"), member(said, "Secret")
    if not isinstance(user, str) or not isinstance(secret, str):
        return None
    if user == "<token>":  # for OAuth, which no Basic authorization takes
        _log.warning("A credential helper has an identity token, which is not taken.", helper=program)
        return None
    return base64.b64encode(f"{user}:{secret}".encode()).decode()
