"""ARNs, names and qualifiers of functions and layers, parsed in one place, because AWS accepts a function as a
name, a partial ARN or a full ARN, with or without a qualifier, in every operation.

Pure: no I/O, no settings. Raises only `kernel.errors`. AWS: "FunctionName" in each operation's reference.
"""

import hashlib
import re
from dataclasses import dataclass

from lambent.kernel.errors import InvalidParameterValueException, ResourceNotFoundException

LATEST = "$LATEST"

_FUNCTION = re.compile(
    r"(?:arn:(?P<partition>aws[a-zA-Z-]*):lambda:)?"
    r"(?:(?P<region>[a-z]{2}(?:-gov)?(?:-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?"
    r"(?:function:)?"
    r"(?P<name>[a-zA-Z0-9-_]+)"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9-_]+))?"
)
_LAYER_VERSION = re.compile(
    r"arn:(?P<partition>aws[a-zA-Z-]*):lambda:(?P<region>[a-z0-9-]+):(?P<account>\d{12}):"
    r"layer:(?P<name>[a-zA-Z0-9-_]+)(?::(?P<version>[0-9]+))?"
)


@dataclass(frozen=True, slots=True)
class FunctionReference:
    """What a caller named: a function and, if given, a version or alias of it."""

    name: str
    qualifier: str | None = None


@dataclass(frozen=True, slots=True)
class LayerVersionReference:
    """A layer version as its ARN names it."""

    region: str
    account: str
    name: str
    version: int


def parse_function(text: str, *, region: str, account: str, qualifier: str | None = None) -> FunctionReference:
    """The function that `text` (name, partial or full ARN, each with or without `:qualifier`) names.

    `qualifier` is the request's own Qualifier parameter; one given in both places must be the same.
    Raises ResourceNotFoundException for another region or account's ARN,
    InvalidParameterValueException for qualifiers that differ or text that is no function name.
    """
    found = _FUNCTION.fullmatch(text)
    if found is None:
        raise InvalidParameterValueException(f"{text} is not a valid function name or ARN.")
    if found["region"] and found["region"] != region:
        raise ResourceNotFoundException(
            f"Functions from '{found['region']}' are not reachable in this region ('{region}')"
        )
    name, derived = found["name"], found["qualifier"]
    if derived and qualifier and derived != qualifier:
        raise InvalidParameterValueException(
            "The derived qualifier from the function name does not match the specified qualifier."
        )
    if found["account"] and found["account"] != account:
        raise ResourceNotFoundException(
            f"Function not found: arn:aws:lambda:{region}:{found['account']}:function:{name}"
        )
    return FunctionReference(name, derived or qualifier)


def function_arn(*, region: str, account: str, name: str, qualifier: str | None = None) -> str:
    """`arn:aws:lambda:REGION:ACCOUNT:function:NAME[:QUALIFIER]`."""
    arn = f"arn:aws:lambda:{region}:{account}:function:{name}"
    return f"{arn}:{qualifier}" if qualifier else arn


def layer_arn(*, region: str, account: str, name: str, version: int | None = None) -> str:
    """`arn:aws:lambda:REGION:ACCOUNT:layer:NAME[:VERSION]`."""
    arn = f"arn:aws:lambda:{region}:{account}:layer:{name}"
    return f"{arn}:{version}" if version is not None else arn


def runtime_version_arn(*, region: str, runtime: str) -> str:
    """The ARN of a runtime's version: 64 hex digits, the same for as long as the runtime is called so."""
    return f"arn:aws:lambda:{region}::runtime:{hashlib.sha256(runtime.encode()).hexdigest()}"


def parse_layer_version(text: str) -> LayerVersionReference | None:
    """The layer version that an ARN names, or None when `text` is not the ARN of a layer *version*."""
    found = _LAYER_VERSION.fullmatch(text)
    if found is None or found["version"] is None:
        return None
    return LayerVersionReference(found["region"], found["account"], found["name"], int(found["version"]))


def layer_name(text: str) -> str:
    """The bare name of a layer given as a name or as an (unversioned) ARN."""
    return text.rsplit(":", 1)[-1] if text.startswith("arn:") else text


def is_version(qualifier: str) -> bool:
    """Whether a qualifier is a version (`$LATEST` or a number) and not an alias."""
    return qualifier == LATEST or qualifier.isdigit()


def version_number(qualifier: str) -> int | None:
    """The number of a published version as AWS writes it (`7`, not `07`), or None for anything else."""
    if not (qualifier.isascii() and qualifier.isdigit()) or qualifier.startswith("0") or len(qualifier) > 18:
        return None
    return int(qualifier)
