"""The recipe for containers: the image is built, and a worker works in it.

No registry is asked: the image to begin with is made of this Python and the libraries that it needs.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from tests.conftest import TOP, Pipeline, Process

BASE = "localhost/python"
PREFIX = Path(sys.base_prefix)
STDLIB = Path(os.__file__).parent


class Buildah:
    """Its images are in a folder of the test."""

    def __init__(self, folder: Path) -> None:
        self._command = ["buildah", "--storage-driver", "vfs", "--root", str(folder / "root")]
        self._command += ["--runroot", str(folder / "run")]

    def words(self, *arguments: str) -> list[str]:
        name, *rest = arguments
        isolation = ["--isolation", "chroot"] if name in ("run", "build") else []
        return [*self._command, name, *isolation, *rest]

    def __call__(self, *arguments: str, cwd: Path | None = None) -> str:
        done = subprocess.run(self.words(*arguments), cwd=cwd, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()


@pytest.fixture
def buildah(tmp_path: Path) -> Iterator[Buildah]:
    if shutil.which("buildah") is None or os.geteuid() or sys.platform != "linux":
        pytest.skip("buildah is not installed, or this is not root")
    made = Buildah(tmp_path / "images")
    yield made
    made("rm", "--all")


def needed(names: list[str]) -> set[str]:
    """These packages, and all that they need."""
    found: set[str] = set()
    while names:
        name = names.pop()
        if name in found:
            continue
        try:
            requires = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            # For another system or Python.
            continue
        found.add(name)
        names += [re.split(r"[^\w.-]", each)[0] for each in requires if "extra ==" not in each]
    return found


def libraries(files: list[Path]) -> set[Path]:
    """The shared libraries of the system that these files need."""
    said = subprocess.run(["ldd", *files], capture_output=True, text=True).stdout
    return {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(0x", said, re.MULTILINE)}


def make_base(buildah: Buildah, tree: Path) -> None:
    """An image with this Python, a shell, and what Tradewind needs."""
    python = PREFIX / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    # Debian's Python has its packages elsewhere, and does not want any.
    ask = [python, "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    packages = tree / subprocess.run(ask, check=True, capture_output=True, text=True).stdout.strip().lstrip("/")
    unused = ("site-packages", "dist-packages", "test", "tests", "__pycache__", "config-*", "*.a", "EXTERNALLY-MANAGED")
    shutil.copytree(STDLIB, tree / STDLIB.relative_to("/"), ignore=shutil.ignore_patterns(*unused))
    for name in needed(["pyzmq", "msgspec", "typer", "rich", "pip"]):
        for each in metadata.files(name) or []:
            if ".." not in each.parts and "__pycache__" not in each.parts and Path(each.locate()).is_file():
                (packages / each).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(each.locate(), packages / each)
    binaries = [python.resolve(), Path("/bin/sh").resolve()]
    modules = [*(STDLIB / "lib-dynload").glob("*.so"), *packages.rglob("*.so*")]
    for path in {*binaries, *libraries([*binaries, *modules])} - set(modules):
        if not path.is_relative_to(tree):
            (tree / path.relative_to("/")).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tree / path.relative_to("/"))
    for link, target in (("bin/sh", binaries[1]), ("usr/bin/python3", binaries[0])):
        if not (tree / link).exists():
            (tree / link).parent.mkdir(parents=True, exist_ok=True)
            (tree / link).symlink_to(target)
    (tree / "tmp").mkdir(mode=0o1777)
    made = buildah("from", "scratch")
    buildah("copy", made, str(tree), "/")
    buildah("config", "--env", f"PATH={PREFIX / 'bin'}:/usr/local/bin:/usr/bin:/bin", made)
    buildah("commit", made, BASE)


def test_the_image_is_built_and_a_worker_works_in_it(pipeline: Pipeline, buildah: Buildah, tmp_path: Path) -> None:
    make_base(buildah, tmp_path / "tree")
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", "."]
    subprocess.run([*pip, str(TOP)], cwd=pipeline.folder, check=True)
    words = ["squares", "--slots", "1", "--exit-when-idle", "1"]
    recipe = [sys.executable, "-m", "common", "crew", "container", "--from", BASE, "--", *words]
    env = pipeline.env | {"PYTHONPATH": str(TOP)}
    printed = subprocess.run(recipe, cwd=pipeline.folder, env=env, check=True, capture_output=True, text=True).stdout
    (pipeline.folder / "Containerfile").write_text(printed)
    buildah("build", "--tag", "farm", "--file", "Containerfile", ".", cwd=pipeline.folder)

    pipeline.sink()
    config = json.loads(buildah("inspect", "farm"))["OCIv1"]["config"]
    assert config["User"] == "10001:10001"
    assert config["Entrypoint"] == ["tradewind"]
    made = buildah("from", "farm")
    run = buildah.words("run", made, "--", *config["Entrypoint"], *config["Cmd"])
    with (pipeline.folder / "keys" / "worker.key_secret").open() as key:
        worker = Process(run, pipeline.folder, "container", pipeline.env, key)
    pipeline.processes.append(worker)
    assert pipeline.ventilator("squares:square", "--range", "9").wait() == 0
    assert pipeline.query("SELECT COUNT(*), SUM(value) FROM results") == [(9, 204)]
    assert worker.wait() == 0, worker.err
