"""The command line of `crew ssh`: what is refused before any host is asked, and which key a crew gets."""

from pathlib import Path

import pytest

from common.crew import crew_key, ssh
from common.crew.remote import Way
from common.crew.worker_line import read
from common.errors import OperatorError
from common.protocol.users import WORKER
from common.transport.key_files import load
from common.transport.key_folder import KeyFolder

HERE, THERE = "tcp://127.0.0.1:5559", "tcp://farm:5559"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KeyFolder:
    monkeypatch.chdir(tmp_path)
    made = KeyFolder(Path("keys"))
    made.prepare()
    made.prepare_local(HERE)
    made.enrol(WORKER, "crew", THERE, Path("crew.key_secret"))
    return made


@pytest.mark.parametrize(
    ("hosts", "said"),
    [(["a", "-oProxyCommand=x"], "is no host"), ([""], "is no host"), (["a", "b", "a"], "a stands there twice")],
)
def test_what_is_no_host_is_refused(hosts: list[str], said: str) -> None:
    with pytest.raises(OperatorError, match=said):
        ssh.check_hosts(hosts)
    ssh.check_hosts(["a", "ann@b", "fe80::1"])


def test_how_ssh_is_started() -> None:
    assert ssh.ssh_words("sh -F 'my config'") == ("sh", "-F", "my config")
    missing = "there is no such program here"
    for text, said in (("", missing), ("no-such-program -v", missing), ("sh 'open", "no closing quotation")):
        with pytest.raises(OperatorError, match=f"^--ssh {text}: {said}"):
            ssh.ssh_words(text)


def test_an_address_that_is_each_host_itself_is_refused_with_what_to_do(folder: KeyFolder) -> None:
    line = read(["work"])
    with pytest.raises(OperatorError, match="with --tunnel, or give --sink HOST behind --"):
        ssh.key_and_way(line, Way(), folder.local(WORKER), folder.path, tunnel=False)
    given, way = ssh.key_and_way(line, Way(), Path("crew.key_secret"), folder.path, tunnel=False)
    assert (given.certificate.sink, way.tunnel) == (THERE, ())
    # What the operator types counts: the host may be this machine.
    ssh.key_and_way(read(["work", "--sink", "127.0.0.1"]), Way(), folder.local(WORKER), folder.path, tunnel=False)
    with pytest.raises(OperatorError, match="leave --sink out"):
        ssh.key_and_way(read(["work", "--sink", "farm"]), Way(), folder.local(WORKER), folder.path, tunnel=True)


def test_a_key_is_lent_and_given_back(folder: KeyFolder) -> None:
    given, _ = ssh.key_and_way(read(["work"]), Way(), None, folder.path, tunnel=False)
    lent = folder.roster()[given.certificate.public]
    assert lent.role == WORKER and lent.name.startswith("crew-")
    Path("copy").touch(mode=0o600)
    Path("copy").write_text(given.text)
    assert load(Path("copy")).secret == given.certificate.secret
    files = [path for path in folder.path.rglob("*") if path.is_file()]
    assert given.certificate.secret and not any(given.certificate.secret in path.read_text() for path in files)
    given.give_back()
    assert given.certificate.public not in folder.roster()
    assert given.certificate.public in folder.revoked()


def test_a_key_that_was_named_is_not_revoked(folder: KeyFolder) -> None:
    before = folder.roster()
    given, _ = ssh.key_and_way(read(["work"]), Way(), Path("crew.key_secret"), folder.path, tunnel=False)
    given.give_back()
    assert folder.roster() == before


def test_no_key_is_lent_when_the_crew_cannot_start(folder: KeyFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_sink(*_: object) -> None:
        raise OperatorError("no sink answers")

    before = folder.roster()
    monkeypatch.setattr(crew_key, "tunnel", no_sink)
    with pytest.raises(OperatorError, match="no sink answers"):
        ssh.key_and_way(read(["work"]), Way(), None, folder.path, tunnel=True)
    assert folder.roster() == before
    assert folder.revoked() == {}


def test_a_tunnel_leads_to_the_sink_from_each_hosts_own_address(
    folder: KeyFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    ports = ((5559, "farm", 5559), (25_558, "farm", 25_558), (5555, "farm", 5555))
    monkeypatch.setattr(crew_key, "tunnel", lambda asker: ports)
    given, way = ssh.key_and_way(read(["work"]), Way(), Path("crew.key_secret"), folder.path, tunnel=True)
    assert (given.certificate.sink, way.tunnel) == (HERE, ports)
    assert given.certificate.secret == load(Path("crew.key_secret")).secret
