"""The written form and the bounds of what a cluster's processes agree on, in one place for Redis and for the
twin in memory."""

import json

from lambent.kernel.errors import InvalidParameterValueException, ServiceException
from lambent.kernel.models import Member
from lambent.kernel.store import codec

ROLES = ("gateway", "scheduler", "executor")
MEMBER_KEPT_SECONDS = 60
MOST_MEMBERS = 2000
"""Of a role, those that fell silent lately included: what a listing carries stays bounded."""
WANT_SECONDS = 3
_MOST_MEMBER_BYTES = 8192
_MOST_ID = 128


def encode_member(member: Member, ttl: float) -> bytes:
    """JSON with its schema number. Raises InvalidParameterValueException: an unknown role, too large, a `ttl`
    beyond what a member is kept."""
    if member.role not in ROLES:
        raise InvalidParameterValueException(f"A member's role is one of {', '.join(ROLES)}: {member.role!r}.")
    if not 0 < len(member.id) <= _MOST_ID:
        raise InvalidParameterValueException(f"A member's id has 1 to {_MOST_ID} characters.")
    if not 0 < ttl <= MEMBER_KEPT_SECONDS:
        raise InvalidParameterValueException(
            f"A registration stands for at most {MEMBER_KEPT_SECONDS} seconds, and not for {ttl}."
        )
    document = {
        "schema": codec.SCHEMA,
        "id": member.id,
        "role": member.role,
        "addresses": dict(member.addresses),
        "facts": dict(member.facts),
        "ttl": ttl,
    }
    written = codec.utf8(json.dumps(document, ensure_ascii=False))
    if len(written) > _MOST_MEMBER_BYTES:
        raise InvalidParameterValueException(
            f"What a member says of itself has at most {_MOST_MEMBER_BYTES} bytes, and not {len(written)}."
        )
    return written


def member(data: bytes, age: float) -> Member:
    """Of a listing. Raises ServiceException for what a newer release has written, or is damaged."""
    try:
        document = json.loads(data)
        codec.refuse_newer(document.get("schema"), "A member of the cluster")
        return Member(
            document["id"],
            document["role"],
            document["addresses"],
            document["facts"],
            age,
            age <= document["ttl"],
        )
    except (ValueError, KeyError, TypeError, AttributeError) as failure:
        raise ServiceException(f"A stored member is damaged: {data[:100]!r}") from failure


def too_many_members(role: str) -> ServiceException:
    return ServiceException(
        f"The cluster knows {MOST_MEMBERS} members of the role {role} already: start no more, or wait for a "
        "minute, until those that have ended are forgotten."
    )


def refuse_negative(count: int) -> None:
    """Raises InvalidParameterValueException."""
    if count < 0:
        raise InvalidParameterValueException(f"A number of slots is not negative: {count}.")
