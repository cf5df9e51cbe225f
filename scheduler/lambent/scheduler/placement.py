"""Who may have a slot, decided from counts alone, because limits must be exact and so must be testable without
anything that runs.

AWS: the account has L; `reserved` of a function is carved out of L, and that function can use exactly so
many; the others share what is left.
"""

from dataclasses import dataclass

RESERVED_FULL = "ReservedFunctionConcurrentInvocationLimitExceeded"
ACCOUNT_FULL = "ConcurrentInvocationLimitExceeded"


@dataclass(frozen=True, slots=True)
class Pool:
    """Slots that functions without a reservation share. `used`: granted from it now."""

    limit: int
    reserved: int
    used: int

    @property
    def free(self) -> int:
        return max(0, self.limit - self.reserved - self.used)


def refusal(*, slots: int, pool: Pool, reserved: int | None, used: int) -> str | None:
    """AWS's Reason for refusing `slots`, or None. `reserved` and `used`: the function's own."""
    if reserved is not None:
        return RESERVED_FULL if used + slots > reserved else None
    return ACCOUNT_FULL if slots > pool.free else None
