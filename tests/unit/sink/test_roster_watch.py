"""Which keys a running sink lets in, and what it says of those that it does not."""

from pathlib import Path

import pytest

from common.sink.key_folder import KeyFolder
from common.sink.roster_watch import RosterWatch
from common.transport.key_files import load

ADDRESS = "tcp://sink.example:5559"


@pytest.fixture
def folder(tmp_path: Path) -> KeyFolder:
    made = KeyFolder(tmp_path / "keys")
    made.prepare()
    return made


def enrol(folder: KeyFolder, role: str, name: str) -> str:
    out = folder.path.parent / f"{name}.key_secret"
    folder.enrol(role, name, ADDRESS, out)
    return load(out).public


@pytest.mark.parametrize(
    ("role", "control", "results"), [("worker", True, True), ("ventilator", True, False), ("observer", True, False)]
)
def test_each_role_is_let_in_where_it_has_something_to_send(
    folder: KeyFolder, role: str, control: bool, results: bool
) -> None:
    key = enrol(folder, role, "ada")
    watch = RosterWatch(folder)
    assert (watch.admits("control", key), watch.admits("results", key)) == (control, results)
    assert not watch.admits("control", "?" * 40)


def test_a_key_enrolled_or_revoked_meanwhile_counts_after_the_next_look(folder: KeyFolder) -> None:
    watch = RosterWatch(folder)
    assert not watch.look()
    key = enrol(folder, "worker", "ada")
    assert not watch.admits("results", key)
    assert watch.look() and watch.admits("results", key)
    folder.revoke("ada")
    assert watch.look() and not watch.admits("results", key)
    assert not watch.look()


def test_what_a_revoked_key_still_sends_is_known_to_be_its_own(folder: KeyFolder) -> None:
    key = enrol(folder, "worker", "ada")
    watch = RosterWatch(folder)
    folder.revoke("ada")
    watch.look()
    user = watch.user(key)
    assert user is not None and user.name == "ada"
    assert watch.user("?" * 40) is None


def test_a_refused_key_is_named_once_until_the_roster_changes(folder: KeyFolder) -> None:
    observer, revoked_before = enrol(folder, "observer", "olga"), enrol(folder, "worker", "ada")
    folder.revoke("ada")
    watch = RosterWatch(folder)
    lines = [watch.refused("results", key, "10.0.0.1") for key in (observer, revoked_before, "?" * 40)]
    assert lines == [
        "refused the key of observer olga from 10.0.0.1 on the results link (logged once)",
        "refused the key of ada from 10.0.0.1 on the results link (logged once)",
        "refused an unknown key (????????...) from 10.0.0.1 on the results link (logged once)",
    ]
    assert watch.refused("control", observer, "10.0.0.2") is None
    enrol(folder, "worker", "bob")
    watch.look()
    assert watch.refused("control", observer, "10.0.0.2") is not None
