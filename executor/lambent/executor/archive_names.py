"""Which names and symlinks of a zip stay inside its tree: pure, because it decides what may be written and has
to be tested without a disk."""

from collections.abc import Mapping

MAX_DEPTH = 128
MAX_NAME = 2048
_MAX_COMPONENT = 255
_MAX_HOPS = 40  # the kernel's own limit on symlinks in one path
_MAX_STEPS = 2_000_000  # over all links: long targets that lead to each other multiply


class SymlinkEscape(Exception):
    """A symlink leads out of the tree, or in a circle."""


def split_name(name: str) -> tuple[str, ...]:
    """An entry's name as path components; () for the root itself. Raises ValueError with a sentence."""
    if "\0" in name:
        raise ValueError("An entry's name has a NUL character.")
    if "\\" in name:
        raise ValueError(f"The entry {name} has a backslash in its name; zips separate folders by '/'.")
    if name.startswith("/") or (len(name) > 1 and name[1] == ":" and name[0].isalpha() and name[0].isascii()):
        raise ValueError(f"The entry {name} has an absolute name.")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise ValueError(f"The entry {name} lies outside the archive.")
    try:
        sizes = [len(part.encode()) for part in parts]
    except UnicodeEncodeError:
        raise ValueError("An entry's name is not valid text.") from None
    if len(parts) > MAX_DEPTH or sum(sizes) + len(parts) > MAX_NAME or max(sizes, default=0) > _MAX_COMPONENT:
        raise ValueError(f"The entry {name[:100]}... has a name that is too long or too deep.")
    return parts


def check_symlinks(links: Mapping[tuple[str, ...], str]) -> None:
    """Raises SymlinkEscape unless each link's target resolves inside the tree, also by way of other links.

    `links`: path of the link -> its target. What does not exist counts as a folder; a link to it stays inside.
    """
    steps = 0
    for path in links:
        steps += _resolve(path, links)
        if steps > _MAX_STEPS:
            raise SymlinkEscape("Its symlinks are too many and too long.")


def _resolve(link: tuple[str, ...], links: Mapping[tuple[str, ...], str]) -> int:
    """How many components were walked."""
    at = list(link[:-1])
    todo = [link[-1]]  # components still to walk, the next one last
    hops = steps = 0
    while todo:
        part = todo.pop()
        steps += 1
        if part in ("", "."):
            continue
        if part == "..":
            if not at:
                raise SymlinkEscape(f"The symlink {'/'.join(link)} leads out of the archive.")
            at.pop()
            continue
        target = links.get((*at, part))
        if target is None:
            at.append(part)
            continue
        hops += 1
        if hops > _MAX_HOPS:
            raise SymlinkEscape(f"The symlink {'/'.join(link)} leads in a circle.")
        if target.startswith("/"):
            raise SymlinkEscape(f"The symlink {'/'.join(link)} leads out of the archive.")
        todo.extend(reversed(target.split("/")))
    return steps
