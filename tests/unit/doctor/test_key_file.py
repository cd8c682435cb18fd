"""What `doctor` says of a key file, and of what says where the sink is."""

from dataclasses import replace
from pathlib import Path

import pytest

from common.doctor import network
from common.doctor.checks import OF_ROLE, examine
from common.doctor.facts import Facts, KeyFile, Port, ResolvedName
from common.protocol.users import WORKER
from common.transport import key_files
from common.transport.key_files import Certificate

KEY = KeyFile("lab.key_secret", "", WORKER, "lab", "sinkhost", 5559, "tcp://sinkhost:5559")
NAMELESS = Facts(key=KEY, name=ResolvedName("sinkhost", (), False))
HERE = Facts(key=KEY, name=ResolvedName("sinkhost", ("127.0.1.1",), True), control=Port("sinkhost", 5559, "refused"))


@pytest.mark.parametrize(
    ("gives_address", "advice", "what"),
    [
        (True, "--sink or in lab.key_secret, or", "address in lab.key_secret is"),
        (False, "--sink, or", "address in --sink is"),
    ],
)
def test_advice_names_what_says_where_the_sink_is(gives_address: bool, advice: str, what: str) -> None:
    key = replace(KEY, gives_address=gives_address)
    nameless, here = (
        next(each for each in examine(replace(facts, key=key), OF_ROLE[WORKER]) if each.check == "sink's name")
        for facts in (NAMELESS, HERE)
    )
    assert nameless.do == f"fix the sink's name with {advice} this machine's DNS"
    assert what in here.what


@pytest.mark.parametrize("override", [None, "farm:1"])
def test_a_key_file_from_standard_input_is_called_the_key_file(
    override: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = Certificate(Path("standard input"), "p" * 40, "s" * 40, "lab", WORKER, "tcp://sinkhost:5559", "k" * 40)
    monkeypatch.setattr(key_files, "_standard_input", lambda: sent)
    found = network.key_file(key_files.STDIN, WORKER, override)
    assert (found.path, found.gives_address) == ("the key file", override is None)
