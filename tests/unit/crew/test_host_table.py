"""What --check prints: a row for each host, and below what is wrong."""

import json

from common.causes import Cause
from common.crew.host_table import HostReport, read, table

FACTS = {"versions": {"Tradewind": "0.2.0", "Python": "3.11.7"}, "slots": 4, "clock_ahead_s": -0.04}


def said(*checks: tuple[str, str, str, str], **facts: object) -> HostReport:
    names = ("check", "state", "what", "do")
    printed = {"fails": False, "checks": [dict(zip(names, each, strict=True)) for each in checks]}
    line = json.dumps(printed | {"facts": FACTS | facts})
    return HostReport("lab1", is_connected=True, said=read(["Welcome to lab1", "{}", line, "bye"]))


def test_a_row_for_each_host_with_what_is_wrong_below() -> None:
    good = said(("sink's port", "ok", "fine", ""), ("modules", "ok", "work: 1 function", ""))
    bad = said(
        ("sink's port", "FAIL", "no sink answers", "open it"),
        ("handshake", "unknown", "needs: sink's port", ""),
        ("modules", "FAIL", "cannot serve work", "module work not found"),
        ("threads", "warn", "many", "fewer"),
        clock_ahead_s=None,
    )
    away = HostReport("lab\x1b3", Cause("lab3 is not reached", "see whether it runs"))
    bare = HostReport("lab4", Cause("lab4 does not find tradewind", "install it"), is_connected=True)
    assert [report.fails for report in (good, bad, away, bare)] == [False, True, True, True]
    assert table([good, bad, away, bare], "0.2.0") == [
        "host      ssh   python  tradewind  slots  clock   sink                modules",
        "lab1      ok    3.11.7  0.2.0      4      +0.0 s  ok                  ok",
        "lab1      ok    3.11.7  0.2.0      4              FAIL (sink's port)  FAIL",
        r"lab\x1b3  FAIL",
        "lab4      ok            FAIL",
        "",
        "FAIL  lab1: sink's port: no sink answers",
        "      -> open it",
        "FAIL  lab1: modules: cannot serve work",
        "      -> module work not found",
        "warn  lab1: threads: many",
        "      -> fewer",
        r"FAIL  lab\x1b3: lab3 is not reached",
        "      -> see whether it runs",
        "FAIL  lab4: lab4 does not find tradewind",
        "      -> install it",
    ]


def test_when_all_is_well_nothing_stands_below_the_table() -> None:
    assert len(table([said(("sink's port", "ok", "fine", ""))], "0.2.0")) == 2


def test_another_version_is_a_warning() -> None:
    report = said(("sink's port", "ok", "fine", ""))
    lines = table([report], "0.3.0")
    assert lines[3:] == [
        "warn  lab1: it has Tradewind 0.2.0, this machine 0.3.0",
        "      -> install the same version there",
    ]
    assert not report.fails


def test_what_is_no_report_is_none() -> None:
    assert read([]) is None
    assert read(["bash: tradewind: not found", "[]", '{"checks": 3}']) is None


def test_slots_that_the_workers_are_given_are_shown_in_place_of_the_cores() -> None:
    heads, row = table([said()], "0.2.0", 16)
    assert row[heads.index("slots") :].split()[0] == "16"
