"""Lets the server open as many files as the machine allows, because an environment holds a dozen descriptors
and the usual soft limit of 1,024 ends with the eightieth."""

import resource


def raise_limit() -> int:
    """Raises this process's soft limit to its hard one; what it is now. Environments get their own limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
