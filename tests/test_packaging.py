"""The wheel: what a machine without a checkout installs."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import PATIENCE_S, TOP


def test_the_wheel_brings_three_commands_and_no_module_that_a_user_could_want(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", tmp_path, TOP]
    subprocess.run(build, check=True, timeout=PATIENCE_S)
    [wheel] = tmp_path.glob("tradewind-0.1.0-*.whl")
    site = tmp_path / "site"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
        scripts = archive.read("tradewind-0.1.0.dist-info/entry_points.txt").decode()
    assert sorted(path.name for path in site.iterdir()) == ["tradewind", "tradewind-0.1.0.dist-info"]
    for name in ("sink", "worker", "ventilator"):
        assert f"tradewind-{name} = tradewind.{name}.command:main" in scripts

    project = tmp_path / "project"
    (project / "common").mkdir(parents=True)
    (project / "common" / "__init__.py").write_text("MINE = 7\n")
    (project / "mine.py").write_text("from common import MINE\ndef add(n):\n    return n + MINE\n")
    command = "import sys; from tradewind.ventilator.command import main; sys.argv[0] = 'tradewind-ventilator'; main()"
    done = subprocess.run(
        [sys.executable, "-P", "-c", command, "mine:add", "--range", "3", "--local", "1"],
        cwd=project,
        env=os.environ | {"PYTHONPATH": f"{project}{os.pathsep}{site}"},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.returncode == 0, done.stderr
    assert "3 tasks recorded, 0 failed" in done.stderr
    assert "results: tradewind-sink results mine-add-" in done.stderr
