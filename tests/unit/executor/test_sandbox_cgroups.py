"""Where groups are made and what is written to them, on folders that look like the kernel's."""

from pathlib import Path

import pytest

from lambent.executor.drivers.sandbox import cgroups

QUOTAS = cgroups.Quotas(memory=128 << 20, processes=30)


def group(folder: Path, **files: str) -> Path:
    """A folder with what the kernel would put in; names with _ for the dot after the first word."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("cgroup.procs", *files):
        (folder / name.replace("__", ".")).write_text(files.get(name, ""))
    return folder


def v2_mount(folder: Path) -> str:
    return f"30 20 0:26 / {folder} rw,nosuid - cgroup2 cgroup2 rw\n"


def v1_mount(folder: Path, controllers: str) -> str:
    return f"31 20 0:27 / {folder} rw,nosuid - cgroup cgroup rw,{controllers}\n"


def prepared(parent: Path, instance: str, **files: str) -> Path:
    """The kernel fills a new group itself; here it is there before."""
    return group(parent / cgroups.group_name(instance), **files)


def test_v2_takes_the_nearest_group_that_passes_controllers_on(tmp_path: Path) -> None:
    on = {"cgroup__controllers": "memory pids", "cgroup__subtree_control": "memory pids"}
    group(tmp_path, **on)
    group(tmp_path / "user.slice", **on)
    group(tmp_path / "user.slice/run.scope", cgroup__controllers="memory pids", cgroup__subtree_control="")
    prepared(tmp_path / "user.slice", "a", **on)
    tree = cgroups.find("a", mounts=v2_mount(tmp_path), own="0::/user.slice/run.scope\n")
    assert tree.unified == tmp_path / "user.slice/lambent-a"
    assert tree.unified_controllers == {"memory", "pids"}
    assert not tree.enforces("cpu")
    assert tree.freezes


def test_without_any_writable_group_nothing_is_enforced(tmp_path: Path) -> None:
    tree = cgroups.find("a", mounts="20 1 0:5 / /proc rw - proc proc rw\n", own="0::/\n")
    assert not tree.freezes
    assert not any(tree.enforces(controller) for controller in cgroups.CONTROLLERS)
    assert list(tree.folders()) == []


def test_v1_controllers_stand_beside_a_bare_v2_tree(tmp_path: Path) -> None:
    memory, unified = group(tmp_path / "memory/own"), group(tmp_path / "unified")
    prepared(memory, "a b")
    prepared(unified, "a b", cgroup__freeze="0")
    mounts = v1_mount(tmp_path / "memory", "memory") + v2_mount(unified)
    tree = cgroups.find("a b", mounts=mounts, own="4:memory:/own\n0::/\n")
    assert dict(tree.v1) == {"memory": memory / "lambent-a-b"}
    assert tree.unified == unified / "lambent-a-b"
    assert tree.unified_controllers == frozenset()
    assert tree.enforces("memory")


def test_the_v1_freezer_is_used_only_where_v2_cannot_freeze(tmp_path: Path) -> None:
    prepared(group(tmp_path / "freezer"), "a")
    tree = cgroups.find("a", mounts=v1_mount(tmp_path / "freezer", "freezer"), own="6:freezer:/\n")
    assert set(tree.v1) == {"freezer"}


def test_an_own_group_outside_the_mount_falls_back_to_the_root(tmp_path: Path) -> None:
    group(tmp_path / "pids")
    prepared(tmp_path / "pids", "a")
    tree = cgroups.find("a", mounts=v1_mount(tmp_path / "pids", "pids"), own="8:pids:/../elsewhere\n")
    assert dict(tree.v1) == {"pids": tmp_path / "pids/lambent-a"}


def test_limits_are_written_in_v1s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(cgroups, "_write", lambda path, text: written.__setitem__(path.name, text))
    folders = {name: tmp_path / name / "e" for name in ("memory", "cpu", "pids")}
    for folder in folders.values():
        folder.parent.mkdir()
    groups = cgroups.Groups(folders, None, frozenset())
    groups.create(QUOTAS)
    groups.limit_cpu(128 / 1769)
    assert written == {
        "memory.limit_in_bytes": str(128 << 20),
        "memory.swappiness": "0",
        "pids.max": "30",
        "cpu.cfs_period_us": "20000",
        "cpu.cfs_quota_us": "1447",
    }


def test_limits_are_written_in_v2s_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: dict[str, str] = {}
    monkeypatch.setattr(cgroups, "_write", lambda path, text: written.__setitem__(path.name, text))
    groups = cgroups.Groups({}, tmp_path / "e", frozenset({"memory", "cpu", "pids"}))
    groups.create(QUOTAS)
    groups.limit_cpu(2.0)
    assert written == {"memory.max": str(128 << 20), "pids.max": "30", "cpu.max": "40000 20000"}


def test_numbers_are_read_from_either_version_and_kept_when_the_group_is_gone(tmp_path: Path) -> None:
    memory = group(tmp_path / "m", memory__max_usage_in_bytes="4096\n", memory__oom_control="oom_kill 2\n")
    v1 = cgroups.Groups({"memory": memory}, None, frozenset())
    assert (v1.peak(), v1.oom_kills()) == (4096, 2)
    v2_folder = group(tmp_path / "u", memory__peak="8192\n", cpu__stat="usage_usec 77\nuser_usec 1\n")
    (v2_folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    v2 = cgroups.Groups({}, v2_folder, frozenset({"memory"}))
    assert (v2.peak(), v2.oom_kills(), v2.cpu_us()) == (8192, 1, 77)
    (v2_folder / "memory.peak").unlink()
    assert v2.peak() == 8192


def test_the_cpu_quota_never_falls_below_what_the_kernel_takes() -> None:
    assert cgroups.cpu_quota(0.01) == (1000, 20000)
    assert cgroups.cpu_quota(6.0) == (120000, 20000)
