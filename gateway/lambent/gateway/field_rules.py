"""The four things an input field can be, as values, because a field that is accepted, stored and ignored is
what hurts users of emulators most: there is no fifth thing here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class Enforced:
    """Acts as on AWS. `test` names what shows it: "tests/.../test_file.py::test_name"."""

    test: str


@dataclass(frozen=True, slots=True)
class Emulated:
    """Has an effect, by other means than AWS's. `how` says which."""

    how: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """Accepted and given back, because it cannot matter here. `why` says why not."""

    why: str


HOST: Final = "the host's architecture"
"""In `Refused.unless`: a list of exactly the host's architecture."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Not built: given, it is an error. `message` says what is not done and what to do instead; `unless` are
    the values that mean nothing and are accepted. On a structure it holds for all that is in it."""

    message: str
    unless: tuple[Any, ...] = ()


Rule = Enforced | Emulated | Recorded | Refused
Kind = Literal["enforced", "emulated", "recorded", "refused"]
Fields = Mapping[str, Rule]
"""Dotted path in the model (`VpcConfig.SubnetIds`) -> rule."""
