"""How many cores count, and what a child's environment says."""

import os
from pathlib import Path

import pytest

from common.worker.cores import child_environment, usable_cores


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 8)


def _groups(folder: Path, own: str, files: dict[str, str]) -> tuple[Path, Path]:
    (folder / "own").write_text(own)
    for name, text in files.items():
        path = folder / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / "own", folder / "groups"


V1 = "5:cpu,cpuacct:/a/b\n4:memory:/x\n"


@pytest.mark.parametrize(
    ("own", "files", "count", "quota"),
    [
        ("0::/\n", {"cpu.max": "max 100000\n"}, 8, None),
        ("0::/\n", {"cpu.max": "150000 100000\n"}, 2, "1.5"),
        ("0::/\n", {"cpu.max": "20000 100000\n"}, 1, "0.2"),
        ("0::/\n", {"cpu.max": "1600000 100000\n"}, 8, None),
        ("0::/a/b\n", {"a/b/cpu.max": "max 100000\n", "a/cpu.max": "300000 100000\n"}, 3, "3"),
        ("0::/not/here\n", {"cpu.max": "400000 100000\n"}, 4, "4"),
        ("0::/\n", {"cpu.max": "nonsense"}, 8, None),
        ("nonsense\n", {}, 8, None),
        (V1, {"cpu,cpuacct/a/b/cpu.cfs_quota_us": "-1\n", "cpu,cpuacct/a/b/cpu.cfs_period_us": "100000\n"}, 8, None),
        (V1, {"cpu,cpuacct/a/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/a/cpu.cfs_period_us": "100000\n"}, 3, "2.5"),
        (V1, {"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2, "2"),
    ],
)
def test_the_cpu_quota_of_control_groups_counts(
    tmp_path: Path, own: str, files: dict[str, str], count: int, quota: str | None
) -> None:
    cores = usable_cores(*_groups(tmp_path, own, files))
    assert cores.count == count
    said = f"the CPU quota of its control group is {quota} cores" if quota else "this machine has 8 cores"
    assert cores.why == said


def test_cores_that_the_process_may_not_use_do_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3}, raising=False)
    assert usable_cores(tmp_path / "none", tmp_path).count == 2
    assert usable_cores(tmp_path / "none", tmp_path).why == "it may use 2 of 8 cores"


def test_a_child_gets_its_share_of_threads_and_nothing_of_ours() -> None:
    found = child_environment({"PATH": "/bin", "TRADEWIND_KEY": "key", "TRADEWIND_PRIVATE_FOLDER": "folder"}, 2)
    assert found.pop("PATH") == "/bin"
    assert set(found.values()) == {"2"}
    assert {"OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"} <= found.keys()
    assert not [name for name in found if name.startswith("TRADEWIND")]
    assert child_environment({"PATH": "/bin"}, None) == {"PATH": "/bin"}


def test_threads_that_the_operator_has_set_stay() -> None:
    assert child_environment({"MKL_NUM_THREADS": "7"}, 2)["MKL_NUM_THREADS"] == "7"
    found = child_environment({"OMP_NUM_THREADS": "6"}, 2)
    assert found["OMP_NUM_THREADS"] == "6"
    assert found["NUMBA_NUM_THREADS"] == "2"
    assert not {"OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"} & found.keys(), "they take over what OMP_NUM_THREADS says"
