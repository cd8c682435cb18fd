"""The recipes: what they print is what other programs take."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from common.crew import recipes

WORDS = ("work", "--slots", "4", "--command", r'odd=echo "{}" $HOME 50% \n')


def test_a_unit_says_the_workers_words() -> None:
    text = recipes.unit("/opt/bin/tradewind", WORDS, "/etc/100%.key_secret", "/srv/far m", 7.5)
    assert (
        r'ExecStart=/opt/bin/tradewind worker work --slots 4 --command "odd=echo \"{}\" $$HOME 50%% \\n" --key %d/key'
        in text.splitlines()
    )
    assert "LoadCredential=key:/etc/100%%.key_secret" in text.splitlines()
    assert "TimeoutStopSec=23" in text.splitlines()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_has_nothing_to_say_about_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "tradewind-test.service"
    path.write_text(recipes.unit(sys.executable, WORDS, "/etc/tradewind/worker.key_secret", "/srv/farm", 30))
    found = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True)
    # For a word that it does not know it says so, and exits with 0.
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
