"""Which keys a running sink lets in, and what it says of those that it does not."""

import errno
import logging
import os

import pytest

from common.protocol.settings import HANDSHAKES_A_MINUTE_MAX
from common.sink import roster_watch
from common.sink.roster_watch import RosterWatch
from common.transport import key_files
from common.transport.key_files import load
from common.transport.key_folder import KeyFolder
from common.transport.zap import ADMITTED, REFUSED_FOR_GOOD, REFUSED_FOR_NOW

ADDRESS = "tcp://sink.example:5559"
UNKNOWN = "?" * 40


@pytest.fixture(autouse=True)
def _log_here(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def enrol(folder: KeyFolder, role: str, name: str) -> str:
    out = folder.path.parent / f"{name}.key_secret"
    folder.enrol(role, name, ADDRESS, out)
    return load(out).public


def admits(watch: RosterWatch, link: str, key: str) -> bool:
    return watch.judge(0.0, link, key, True) == ADMITTED


@pytest.mark.parametrize(
    ("role", "control", "results"), [("worker", True, True), ("ventilator", True, False), ("observer", True, False)]
)
def test_each_role_is_let_in_where_it_has_something_to_send(
    folder: KeyFolder, role: str, control: bool, results: bool
) -> None:
    key = enrol(folder, role, "ada")
    watch = RosterWatch(folder)
    assert (admits(watch, "control", key), admits(watch, "results", key)) == (control, results)
    assert not admits(watch, "control", UNKNOWN)


def test_a_key_enrolled_or_revoked_meanwhile_counts_after_the_next_look(folder: KeyFolder) -> None:
    watch = RosterWatch(folder)
    assert not watch.look(0.0)
    key = enrol(folder, "worker", "ada")
    assert watch.judge(0.0, "results", key, False) is None, "it may have been enrolled a moment ago"
    assert watch.judge(0.0, "results", key, True) == REFUSED_FOR_GOOD
    assert watch.look(0.0) and admits(watch, "results", key)
    folder.revoke("ada")
    assert watch.look(0.0) and not admits(watch, "results", key)
    assert not watch.look(0.0)


def test_a_verdict_and_its_line_read_no_file(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    revoked, enrolled = enrol(folder, "worker", "ada"), enrol(folder, "worker", "bob")
    folder.revoke("ada")
    watch = RosterWatch(folder)

    def fail(*_: object) -> None:
        raise AssertionError("a file is read")

    for name in ("roster", "revoked", "stamp"):
        monkeypatch.setattr(KeyFolder, name, fail)
    for key in (revoked, enrolled, UNKNOWN):
        for has_looked in (False, True):
            watch.judge(0.0, "control", key, has_looked)
            watch.refused(0.0, "results", key, "10.0.0.1")


def test_what_a_revoked_key_still_sends_is_known_to_be_its_own(folder: KeyFolder) -> None:
    key = enrol(folder, "worker", "ada")
    watch = RosterWatch(folder)
    folder.revoke("ada")
    watch.look(0.0)
    user = watch.user(key)
    assert user is not None and user.name == "ada"
    assert watch.user(UNKNOWN) is None


def test_a_refused_key_is_named(folder: KeyFolder, caplog: pytest.LogCaptureFixture) -> None:
    observer, revoked_before = enrol(folder, "observer", "olga"), enrol(folder, "worker", "ada")
    revoked_now = enrol(folder, "worker", "eve")
    folder.revoke("ada")
    watch = RosterWatch(folder)
    folder.revoke("eve")
    watch.look(0.0)
    for key in (observer, revoked_before, revoked_now, UNKNOWN):
        watch.refused(0.0, "results", key, "10.0.0.1")
    assert caplog.messages == [
        "refused the key of observer olga from 10.0.0.1 on the results link",
        "refused the key of ada from 10.0.0.1 on the results link",
        "refused the key of worker eve from 10.0.0.1 on the results link",
        "refused an unknown key (????????...) from 10.0.0.1 on the results link",
    ]


def test_knocks_are_logged_by_the_minute_however_many_keys_knock(
    folder: KeyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    watch = RosterWatch(folder)
    for number in range(5_000):
        watch.refused(10.0, "control", f"{number:040}", "10.0.0.1")
    assert len(caplog.messages) == 10
    key = enrol(folder, "observer", "olga")
    watch.look(20.0)
    watch.refused(20.0, "results", key, "10.0.0.2")
    assert "observer olga" in caplog.messages[-1], "a flood of strangers hides no known key"
    watch.refused(70.0, "control", UNKNOWN, "10.0.0.1")
    assert caplog.messages[-2:] == [
        "4990 more like the last lines were not logged",
        "refused an unknown key (????????...) from 10.0.0.1 on the control link",
    ]


def test_a_key_may_connect_so_often_in_a_minute_on_each_link(
    folder: KeyFolder, caplog: pytest.LogCaptureFixture
) -> None:
    key, other = enrol(folder, "worker", "ada"), enrol(folder, "worker", "bob")
    watch = RosterWatch(folder)
    verdicts = []
    for _ in range(HANDSHAKES_A_MINUTE_MAX + 2):
        verdicts.append(watch.judge(30.0, "control", key, False))
        if verdicts[-1] != ADMITTED:
            watch.refused(30.0, "control", key, "10.0.0.1")
    assert verdicts == [ADMITTED] * HANDSHAKES_A_MINUTE_MAX + [REFUSED_FOR_NOW] * 2
    assert watch.judge(30.0, "results", key, False) == watch.judge(30.0, "control", other, False) == ADMITTED
    assert caplog.messages == [
        f"worker ada at 10.0.0.1, control link: it has connected {HANDSHAKES_A_MINUTE_MAX} times in this minute, and"
        " has to wait"
    ]
    assert watch.judge(90.0, "control", key, False) == ADMITTED


@pytest.mark.parametrize("what", ["folder", "file", "gone", "unreadable"])
def test_a_roster_that_cannot_be_read_stays_as_it_was(
    folder: KeyFolder, what: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    key = enrol(folder, "worker", "ada")
    watch = RosterWatch(folder)
    late = enrol(folder, "worker", "bob")
    full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def fail(*_: object, **__: object) -> None:
        raise full

    workers, aside = folder.path / "roster" / "worker", folder.path / "aside"
    with monkeypatch.context() as patch:
        if what == "folder":
            patch.setattr(os, "scandir", fail)
            patch.setattr(os, "listdir", fail)
        elif what == "file":
            patch.setattr(key_files.Path, "read_text", fail)
        elif what == "gone":
            workers.rename(aside)
        else:
            patch.setattr(roster_watch.KeyFolder, "roster", fail)
        for _ in range(3):
            assert not watch.look(5.0)
    assert admits(watch, "control", key)
    [line] = caplog.messages
    assert line.startswith(f"cannot read the roster in {folder.path}: ")
    assert line.endswith("; the last one stays in force")
    if what == "gone":
        aside.rename(workers)
    assert watch.look(6.0) and admits(watch, "control", late), "it is read once that is possible"
