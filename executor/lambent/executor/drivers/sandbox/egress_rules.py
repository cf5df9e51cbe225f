"""The packet filter and the forwarding switch of an instance: what environments may not reach, written in one
nft table that is loaded in one step, and what must be undone on the host, kept so that a kill -9 can't lose it.

The rules name the environments' links by prefix, so that an attach changes no rule.
"""

import asyncio
import errno
import json
import shutil
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from lambent.executor.drivers.sandbox.egress_addresses import FORBIDDEN
from lambent.kernel.log import Log
from lambent.kernel.tasks import Tasks

_log = Log(__name__)

TABLES = "lambent_"
LINKS = "lmb"
# An empty chain of this name marks a table whose owner found forwarding off: instances that come and go side by
# side hand the mark on, and the last one that has it turns forwarding off again.
_MARK = "forwarding_was_off"
_FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
# linux/netfilter/nfnetlink.h: events of nf_tables, and the one that tells of a deleted table.
_NETFILTER, _GROUP_NFTABLES, _DELETED_TABLE = 12, 7, 10 << 8 | 2


@dataclass(frozen=True, slots=True)
class Chains:
    """What `nft -j list chains` tells: tables by name (family inet), those with the mark, and foreign forward
    chains whose policy is drop, as "family table chain"."""

    tables: frozenset[str]
    marked: frozenset[str]
    dropping: Sequence[str]


def ruleset(table: str, links: str, network: IPv4Network, *, marked: bool, guard: Sequence[str]) -> str:
    """The table as nft reads it; replaces an earlier one of that name in the same transaction.

    `links`: prefix of this instance's links. `guard`: links between which the host did not forward before we
    turned forwarding on, and shall not now; networks that other programs make later are not among them.
    """
    forbidden = ", ".join(str(each) for each in (*FORBIDDEN, network))
    between = ", ".join(f'"{name}"' for name in guard)
    guarded = f"iifname {{ {between} }} oifname {{ {between} }} drop" if guard else ""
    return f"""
add table inet {table}
delete table inet {table}
table inet {table} {{
    {f"chain {_MARK} {{ }}" if marked else ""}
    chain prerouting {{
        type filter hook prerouting priority -300; policy accept;
        iifname "{links}*" meta nfproto != ipv4 drop
        iifname "{links}*" fib saddr . iif oif missing drop
    }}
    chain input {{
        type filter hook input priority -5; policy accept;
        iifname "{links}*" reject with icmpx type admin-prohibited
    }}
    chain environment {{
        ct state invalid drop
        oifname "{LINKS}*" reject with icmpx type admin-prohibited
        fib daddr type {{ local, broadcast, anycast, multicast }} reject with icmpx type admin-prohibited
        ip daddr {{ {forbidden} }} reject with icmpx type admin-prohibited
    }}
    chain forward {{
        type filter hook forward priority -5; policy accept;
        iifname "{links}*" jump environment
        oifname "{links}*" ct state != {{ established, related }} drop
        {guarded}
    }}
    chain postrouting {{
        type nat hook postrouting priority 100; policy accept;
        ip saddr {network} oifname != "{LINKS}*" masquerade
    }}
}}
"""


def read_chains(listed: str, own: str) -> Chains:
    """Reads nft's JSON. Which foreign chains drop matters because accepting here doesn't accept there."""
    tables, marked, dropping = set(), set(), []
    for entry in json.loads(listed).get("nftables", ()):
        chain: dict[str, Any] = entry.get("chain", {})
        table = str(chain.get("table", ""))
        if chain.get("family") == "inet" and table.startswith(TABLES):
            tables.add(table)
            if chain.get("name") == _MARK:
                marked.add(table)
        elif chain.get("hook") == "forward" and chain.get("policy") == "drop" and table != own:
            if chain.get("family") in ("ip", "inet"):
                dropping.append(f"{chain['family']} {table} {chain['name']}")
    return Chains(frozenset(tables), frozenset(marked), dropping)


def _events() -> socket.socket:
    """A socket that tells each change of the packet filter."""
    events = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETFILTER)
    events.setblocking(False)
    events.bind((0, 1 << _GROUP_NFTABLES - 1))
    return events


def _tells_deletion(data: bytes) -> bool:
    while len(data) >= 16:
        length, kind = struct.unpack_from("=IH", data)
        if kind == _DELETED_TABLE:
            return True
        data = data[max(16, length + 3 & ~3) :]
    return False


async def nft(*arguments: str, stdin: str = "") -> str:
    """Runs nft; OSError with what it said. It is looked for where packages put it, which an ordinary PATH may
    not name."""
    binary = find("nft")
    if binary is None:
        raise FileNotFoundError("nft is not installed")
    process = await asyncio.create_subprocess_exec(
        binary,
        *arguments,
        # A pipe that nft never reads is closed by its end before uvloop lets us write nothing into it.
        stdin=asyncio.subprocess.PIPE if stdin else asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, complaint = await process.communicate(stdin.encode() if stdin else None)
    if process.returncode:
        raise OSError(f"nft {' '.join(arguments)}: {complaint.decode(errors='replace').strip()}")
    return said.decode()


def find(program: str) -> str | None:
    return shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin:/usr/local/sbin")


class Rules:
    """The table of one instance and, with it, the host's forwarding switch."""

    def __init__(self, table: str, links: str, state_dir: Path) -> None:
        self._table = table
        self._links = links
        self._record = state_dir / "forwarding.json"
        self._text = ""
        self._tasks = Tasks("packet filter")

    async def chains(self) -> Chains:
        return read_chains(await nft("-j", "list", "chains"), self._table)

    async def load(self, network: IPv4Network, links: Iterable[str]) -> Chains:
        """Loads the table and turns forwarding on; `links`: the host's links now. OSError: it could not, and
        nothing was changed."""
        before = await self.chains()
        off = _FORWARD.read_text().strip() == "0"
        guard = self._recorded()
        if off:
            guard = sorted(name for name in links if name != "lo" and not name.startswith(LINKS))
        marked = guard is not None or bool(before.marked)
        self._text = ruleset(self._table, self._links, network, marked=marked, guard=guard or ())
        # Watched from before the load, so that no change goes unseen.
        events = _events()
        loading = asyncio.ensure_future(nft("-f", "-", stdin=self._text))
        try:
            await asyncio.shield(loading)
        except BaseException:
            # A stop does not end nft: what undoes this must find what it made.
            await asyncio.gather(loading, return_exceptions=True)
            events.close()
            raise
        self._tasks.forever("watch", self._watch(events))
        try:
            if marked:
                self._write_record(guard or ())
            if off:
                _FORWARD.write_text("1")
        except OSError:
            await self._tasks.drain(0)
            await nft("delete", "table", "inet", self._table)
            self._record.unlink(missing_ok=True)
            raise
        _log.info(
            "The environments' packet filter is loaded and stays while Lambent runs.",
            table=f"inet {self._table}",
        )
        if off:
            _log.info(
                "Forwarding of IPv4 packets was off on this host and is on while Lambent runs.",
                sysctl="net.ipv4.ip_forward",
            )
        return before

    async def unload(self) -> None:
        """Takes the table away and turns forwarding off if we, or an instance that has ended before us,
        turned it on and no other instance needs it. Does nothing if there is nothing to undo."""
        await self._tasks.drain(0)
        chains = await self.chains()
        marked = self._recorded() is not None or self._table in chains.marked
        others = chains.tables - {self._table}
        if marked and others and not others & chains.marked:
            await nft("add", "chain", "inet", sorted(others)[0], _MARK)
        if self._table in chains.tables:
            await nft("delete", "table", "inet", self._table)
        if marked and not others:
            _FORWARD.write_text("0")
            _log.info("Forwarding of IPv4 packets is off again on this host.", sysctl="net.ipv4.ip_forward")
        self._record.unlink(missing_ok=True)

    async def _watch(self, events: socket.socket) -> None:
        """Loads the table again when somebody has taken it away: reloading a host's own firewall flushes every
        table, and without ours the environments would reach the host."""
        loop = asyncio.get_running_loop()
        with events:
            while True:
                try:
                    deleted = _tells_deletion(await loop.sock_recv(events, 1 << 16))
                except OSError as failure:
                    if failure.errno != errno.ENOBUFS:
                        raise
                    deleted = True  # events were lost, perhaps this one
                while deleted:
                    try:
                        await self._load_again()
                        deleted = False
                    except OSError as failure:
                        # Until it is loaded the environments reach the host: never give up.
                        _log.error("The environments' packet filter can't be loaded.", failure=failure)
                        await asyncio.sleep(1.0)

    async def _load_again(self) -> None:
        if self._table not in (await self.chains()).tables:
            await nft("-f", "-", stdin=self._text)
            _log.warning(
                "The environments' packet filter was deleted by somebody and is loaded again.",
                table=f"inet {self._table}",
            )

    def _write_record(self, guard: Sequence[str]) -> None:
        self._record.parent.mkdir(parents=True, exist_ok=True)
        record = {"net.ipv4.ip_forward": "0", "guard": list(guard), "boot": _BOOT.read_text().strip()}
        self._record.write_text(json.dumps(record), encoding="utf-8")

    def _recorded(self) -> Sequence[str] | None:
        """The guarded links, if an earlier run turned forwarding on since the machine started (a reboot has
        undone it); else None."""
        try:
            record = json.loads(self._record.read_text(encoding="utf-8"))
            if record["boot"] != _BOOT.read_text().strip():
                return None
            return [str(name) for name in record["guard"]]
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            return None
