"""Keys: secrets stay secret, nothing is overwritten, and who is enrolled is what the folder says."""

import fcntl
import os
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import zmq.auth

from common.errors import OperatorError
from common.protocol.users import ROLES, User
from common.sink import command
from common.transport import key_files, key_folder
from common.transport.key_files import Certificate, is_name, load, load_pair
from common.transport.key_folder import KeyFolder

ADDRESS = "tcp://sink.example:5559"
LOCAL = "tcp://127.0.0.1:5559"


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def enrol(folder: KeyFolder, role: str = "worker", name: str = "ada") -> Path:
    out = folder.path.parent / f"{name}.key_secret"
    folder.enrol(role, name, ADDRESS, out)
    return out


def names(folder: KeyFolder) -> dict[str, str]:
    return {user.name: user.role for user in folder.roster().values()}


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077], ids=oct)
def test_whatever_the_umask_only_the_owner_can_read(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        folder = KeyFolder(tmp_path / "keys")
        folder.prepare()
        folder.prepare_local(LOCAL)
        out = enrol(folder)
        folder.prepare_local(ADDRESS)
    finally:
        os.umask(before)
    files = [out, *(path for path in folder.path.rglob("*") if path.is_file())]
    assert len(files) == 10
    assert {mode(path) for path in files} == {0o600}
    assert mode(folder.path) == 0o700


def test_files_are_whole_or_not_there(folder: KeyFolder) -> None:
    folder.prepare_local(LOCAL)
    out = enrol(folder)
    left = [path.name for path in (*folder.path.rglob(".*"), *out.parent.glob(".*"))]
    assert left == []


@pytest.mark.parametrize("bits", [0o640, 0o604, 0o660, 0o610, 0o644, 0o777], ids=oct)
def test_a_secret_that_others_can_read_is_refused(folder: KeyFolder, bits: int) -> None:
    out = enrol(folder)
    out.chmod(bits)
    with pytest.raises(OperatorError, match="chmod 600") as refused:
        load_pair(out, "worker")
    secret = out.read_text().partition("secret-key = ")[2].strip().strip('"')
    assert secret
    assert secret not in str(refused.value)


@pytest.mark.parametrize(("bits", "is_taken"), [(0o440, True), (0o640, True), (0o460, False), (0o444, False)])
def test_root_may_let_a_group_read_a_secret(
    folder: KeyFolder, bits: int, is_taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Kubernetes does for a secret with fsGroup, and systemd for a credential."""
    if os.geteuid():
        pytest.skip("only root owns what root owns")
    out = enrol(folder)
    out.chmod(bits)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if is_taken:
        assert load_pair(out, "worker").secret
    else:
        with pytest.raises(OperatorError, match="chmod 600"):
            load_pair(out, "worker")


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], int]]:
    """Gives this process another standard input: what comes from it, with its end where that is said."""
    kept, ends = os.dup(0), []

    def gives(text: str) -> int:
        theirs, ours = os.pipe()
        os.dup2(theirs, 0)
        os.close(theirs)
        os.write(ours, text.encode())
        ends.append(ours)
        return ours

    key_files._standard_input.cache_clear()
    yield gives
    key_files._standard_input.cache_clear()
    os.dup2(kept, 0)
    for end in ends:
        with suppress(OSError):
            os.close(end)


@pytest.mark.parametrize("rest", ["\nand then tasks\n", "  \r\nand then tasks\n"])
def test_a_key_file_comes_from_standard_input_and_what_follows_is_left(
    folder: KeyFolder, typed: Callable[[str], int], rest: str
) -> None:
    out = enrol(folder)
    typed(out.read_text() + rest)
    found = load_pair(key_files.STDIN, "worker")
    assert found == replace(load_pair(out, "worker"), path=Path("standard input"))
    assert load_pair(key_files.STDIN, "worker") is found
    assert os.read(0, 100) == b"and then tasks\n"


def test_what_is_wrong_with_a_key_from_standard_input_names_it(folder: KeyFolder, typed: Callable[[str], int]) -> None:
    typed(enrol(folder).read_text() + "\n")
    with pytest.raises(OperatorError, match=r"^standard input is a worker's key: a ventilator needs one from "):
        load_pair(key_files.STDIN, "ventilator")


def test_a_key_file_may_be_all_of_standard_input(folder: KeyFolder, typed: Callable[[str], int]) -> None:
    out = enrol(folder)
    os.close(typed(out.read_text().rstrip()))
    assert load(key_files.STDIN).secret == load(out).secret


@pytest.mark.parametrize("text", ["", "secret-key\n\n", "x" * 20_000], ids=["nothing", "no key", "endless"])
def test_what_is_no_key_file_is_said(typed: Callable[[str], int], text: str) -> None:
    os.close(typed(text))
    with pytest.raises(OperatorError, match="no key file comes from standard input"):
        load(key_files.STDIN)


def test_a_secret_does_not_show_in_a_repr(folder: KeyFolder) -> None:
    certificate = load(enrol(folder))
    assert certificate.secret
    assert certificate.secret not in repr(certificate)


def test_other_zeromq_tools_read_our_files(folder: KeyFolder) -> None:
    certificate = load(enrol(folder))
    assert certificate.secret is not None
    public, secret = zmq.auth.load_certificate(certificate.path)
    assert (public, secret) == (certificate.public.encode(), certificate.secret.encode())
    public, secret = zmq.auth.load_certificate(folder.path / "roster/worker/ada.key")
    assert (public, secret) == (certificate.public.encode(), None)
    assert zmq.auth.load_certificates(folder.path / "roster/worker") == {certificate.public.encode(): True}


def test_the_sinks_pair_is_made_once(folder: KeyFolder) -> None:
    first = folder.sink()
    assert folder.prepare() == first
    assert load(folder.path / "sink.key").public == first.public
    assert zmq.curve_public(first.secret.encode()).decode() == first.public  # type: ignore[union-attr]


def test_an_enrolled_file_has_all_that_the_other_machine_needs(folder: KeyFolder) -> None:
    certificate = load_pair(enrol(folder), "worker")
    assert (certificate.name, certificate.role, certificate.sink) == ("ada", "worker", ADDRESS)
    assert certificate.sink_key == folder.sink().public
    assert folder.roster() == {certificate.public: User("worker", "ada", certificate.public)}


@pytest.mark.parametrize(
    "name", ["", "..", ".", "../up", "a/b", "/etc/passwd", "a\0b", "a\nb", "a b", "-a", ".a", "é", "a" * 61, "a\n"]
)
def test_a_name_that_could_leave_the_folder_is_refused(folder: KeyFolder, tmp_path: Path, name: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert not is_name(name)
    with pytest.raises(OperatorError):
        folder.enrol("worker", name, ADDRESS, tmp_path / "out")
    with pytest.raises(OperatorError, match="not enrolled"):
        folder.revoke(name)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["a", "gpu-01.lab_2", "0", "a" * 60])
def test_ordinary_names_are_accepted(folder: KeyFolder, name: str) -> None:
    enrol(folder, name=name)
    assert names(folder) == {name: "worker"}


def test_enrolling_never_overwrites_a_file(folder: KeyFolder, tmp_path: Path) -> None:
    out = tmp_path / "ada.key_secret"
    out.write_text("precious")
    with pytest.raises(OperatorError, match="exists"):
        folder.enrol("worker", "ada", ADDRESS, out)
    assert out.read_text() == "precious"
    assert names(folder) == {}


@pytest.mark.parametrize("role", ROLES)
def test_a_name_is_enrolled_once_whatever_the_role(folder: KeyFolder, tmp_path: Path, role: str) -> None:
    enrol(folder, "worker", "ada")
    with pytest.raises(OperatorError, match="enrolled already"):
        folder.enrol(role, "ada", ADDRESS, tmp_path / "second")
    assert not (tmp_path / "second").exists()


@pytest.mark.parametrize("role", ["sink", "", "../revoked", "Worker"])
def test_there_are_three_roles(folder: KeyFolder, tmp_path: Path, role: str) -> None:
    with pytest.raises(OperatorError, match="no role"):
        folder.enrol(role, "ada", ADDRESS, tmp_path / "out")


def test_a_revoked_key_leaves_the_roster_and_is_remembered(folder: KeyFolder) -> None:
    out = enrol(folder)
    enrol(folder, "observer", "bob")
    key = load(out).public
    assert folder.revoke("ada") == User("worker", "ada", key)
    assert names(folder) == {"bob": "observer"}
    assert folder.revoked() == {key: "ada"}
    with pytest.raises(OperatorError, match="not enrolled"):
        folder.revoke("ada")


def test_a_name_can_be_enrolled_again_with_a_new_key(folder: KeyFolder) -> None:
    old = enrol(folder)
    key = load(old).public
    folder.revoke("ada")
    old.unlink()
    new = load(enrol(folder)).public
    assert new != key
    assert set(folder.roster()) == {new}


def test_the_stamp_changes_with_the_roster(folder: KeyFolder) -> None:
    stamps = [folder.stamp()]
    for role, name in zip(ROLES, ("ada", "bob", "cora"), strict=True):
        # File systems count time in ticks of some milliseconds: make the change fall into another one.
        for each in ROLES:
            os.utime(folder.path / "roster" / each, ns=(0, 0))
        before = folder.stamp()
        enrol(folder, role, name)
        stamps.append(folder.stamp())
        assert stamps[-1] != before
    for each in ROLES:
        os.utime(folder.path / "roster" / each, ns=(0, 0))
    before = folder.stamp()
    folder.revoke("bob")
    assert folder.stamp() != before
    assert folder.stamp() == folder.stamp()


@pytest.mark.parametrize("role", ROLES)
def test_a_key_of_another_role_is_refused_before_it_is_used(folder: KeyFolder, role: str) -> None:
    out = enrol(folder, role, "ada")
    assert load_pair(out, role).role == role
    for other in set(ROLES) - {role}:
        with pytest.raises(OperatorError, match=f"is an? {role}'s key"):
            load_pair(out, other)


def test_a_public_key_alone_does_not_join(folder: KeyFolder) -> None:
    enrol(folder)
    for path in (folder.path / "roster/worker/ada.key", folder.path / "sink.key", folder.path / "sink.key_secret"):
        with pytest.raises(OperatorError, match="enrol worker NAME"):
            load_pair(path, "worker")


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"hello", b"public-key = short", b'    public-key = "' + b"a" * 40 + b'"\n  secret-key = "b"'],
    ids=["empty", "binary", "text", "short", "short secret"],
)
def test_what_is_no_key_file_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "bad.key_secret"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(OperatorError, match=r"bad\.key_secret") as refused:
        load(path)
    assert "\n" not in str(refused.value)


def test_a_missing_key_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        with pytest.raises(OperatorError, match="cannot read the key file"):
            load(path)


@pytest.mark.parametrize("path", ["/proc/keys", "/dev/null/keys"])
def test_a_key_folder_that_cannot_be_written_is_named_in_one_line(path: str) -> None:
    with pytest.raises(OperatorError, match="cannot write the key folder"):
        KeyFolder(Path(path)).prepare()


def test_this_machines_files_follow_the_sinks_address_and_keep_their_keys(folder: KeyFolder) -> None:
    folder.prepare_local(LOCAL)
    before = [folder.certificate(role) for role in ROLES]
    assert names(folder) == {role: role for role in ROLES}
    folder.prepare_local("tcp://127.0.0.1:6000")
    after = [folder.certificate(role) for role in ROLES]
    assert [each.sink for each in after] == ["tcp://127.0.0.1:6000"] * 3
    assert [(each.public, each.secret) for each in after] == [(each.public, each.secret) for each in before]
    assert [load_pair(folder.local(role), role) for role in ROLES] == after


def test_a_local_file_that_names_a_second_sink_too_is_left_alone(folder: KeyFolder) -> None:
    folder.prepare_local(LOCAL)
    path = folder.local("worker")
    path.write_text(path.read_text().replace(LOCAL, f"{LOCAL},tcp://other:5559"))
    folder.prepare_local(LOCAL)
    assert folder.certificate("worker").sink == f"{LOCAL},tcp://other:5559"
    folder.prepare_local("tcp://127.0.0.1:6000")
    assert folder.certificate("worker").sink == "tcp://127.0.0.1:6000"


def test_a_local_key_that_was_revoked_stays_revoked(folder: KeyFolder) -> None:
    folder.prepare_local(LOCAL)
    folder.revoke("worker")
    folder.prepare_local("tcp://127.0.0.1:6000")
    assert names(folder) == {"ventilator": "ventilator", "observer": "observer"}


def test_a_certificate_is_read_whatever_its_order_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "mine.key_secret"
    path.write_text(f'# secret-key = "{"c" * 40}"\n\tsecret-key="{"s" * 40}"\n  public-key   =   "{"p" * 40}"\n\n')
    path.chmod(0o600)
    assert load(path) == Certificate(path, "p" * 40, "s" * 40)


def test_two_sinks_that_start_at_once_leave_keys_that_are_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = KeyFolder(tmp_path / "keys")
    both, pair = threading.Barrier(2), key_folder._pair

    def pair_beside_the_other() -> tuple[str, str]:
        """Each sink is about to write a pair while the other one is, if nothing keeps it from that."""
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=0.1)
        return pair()

    def prepare(_: int) -> None:
        folder.prepare()
        folder.prepare_local(LOCAL)

    monkeypatch.setattr(key_folder, "_pair", pair_beside_the_other)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(prepare, range(2)))
    certificates = [folder.certificate(role) for role in ROLES]
    assert folder.roster() == {each.public: User(each.role, each.role, each.public) for each in certificates}
    assert {each.sink_key for each in certificates} == {folder.sink().public}
    assert load(folder.path / "sink.key").public == folder.sink().public


def test_after_a_first_start_that_failed_machines_can_be_enrolled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sink whose port is taken has made its own pair and nothing else."""
    monkeypatch.chdir(tmp_path)
    KeyFolder(Path("keys")).prepare()
    command.enrol("worker", "ada", Path("keys"), "tcp://sink.example")
    assert load_pair(Path("ada.key_secret"), "worker").sink == ADDRESS


def test_changes_of_the_folder_wait_for_each_other(folder: KeyFolder) -> None:
    held = os.open(folder.path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(folder.prepare_local, LOCAL)
        assert not wait([waiting], timeout=0.2).done
        assert folder.roster() == {}
        os.close(held)
        waiting.result(timeout=30)
    assert set(names(folder)) == set(ROLES)


def test_a_draft_that_a_killed_process_left_is_in_nobodys_way(folder: KeyFolder) -> None:
    for name in ("worker.key_secret", "ada.key_secret"):
        (folder.path / f".{name}.{os.getpid()}").write_text("half")
        (folder.path.parent / f".{name}.{os.getpid()}").write_text("half")
    folder.prepare_local(LOCAL)
    enrol(folder)
    assert set(names(folder)) == {*ROLES, "ada"}
