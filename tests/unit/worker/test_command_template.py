"""Templates of commands: words are split once, and nothing that a task brings adds a word or code."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.worker.command_template import Template, TemplateError, Unfilled


def filled(template: str, argument: Any, task: int = 0) -> list[bytes]:
    return Template(template).fill(argument, task)


@pytest.mark.parametrize(
    ("template", "argument", "words"),
    [
        ("convert {} out/{/.}.png", "in/a b.tar.gz", [b"convert", b"in/a b.tar.gz", b"out/a b.tar.png"]),
        ("x {.} {/} {//} {/.}", "d/e.f/g.h", [b"x", b"d/e.f/g", b"g.h", b"d/e.f", b"g"]),
        ("x {.} {/} {//} {/.}", "d/.bashrc", [b"x", b"d/.bashrc", b".bashrc", b"d", b".bashrc"]),
        ("x {//}", "plain", [b"x", b"."]),
        ("x {#}-{}", "a", [b"x", b"7-a"]),
        ("x {1} {2/} {1}{2}", ["a", "b/c"], [b"x", b"a", b"c", b"ab/c"]),
        ("x {1}", "a", [b"x", b"a"]),
        ("x --width={width} {file/.}", {"width": 3, "file": "a/b.c"}, [b"x", b"--width=3", b"b"]),
        ("x {}", 1.5, [b"x", b"1.5"]),
        ("x {}", b"\xff/\xfe", [b"x", b"\xff/\xfe"]),
        ("x {}", "a\nb  c\t'\"$(id)`id`;|&", [b"x", b"a\nb  c\t'\"$(id)`id`;|&"]),
        ("x {}", "", [b"x", b""]),
        ("x '' {}", "a", [b"x", b"", b"a"]),
        ("gzip", "a", [b"gzip", b"a"]),
        ("find {} -exec ls '{{}}' \\;", "a", [b"find", b"a", b"-exec", b"ls", b"{}", b";"]),
        ("awk '{{print}} {print $1}' {}", "a", [b"awk", b"{print} {print $1}", b"a"]),
        ("x -- {}", "-rf", [b"x", b"--", b"-rf"]),
        ("x out-{}", "-rf", [b"x", b"out--rf"]),
        ("bash -c 'wc -l < \"$1\" | tr a b' _ {}", "a", [b"bash", b"-c", b'wc -l < "$1" | tr a b', b"_", b"a"]),
        (
            'bash -c "wc < \\"\\$1\\"; \\`id\\`; \\\\$2" _ {}',
            "a",
            [b"bash", b"-c", b'wc < "$1"; `id`; \\$2', b"_", b"a"],
        ),
        ("x '\\$1' \\$1 {}", "a", [b"x", b"\\$1", b"$1", b"a"]),
        ("python tool.py -c {}", "a", [b"python", b"tool.py", b"-c", b"a"]),
        ("x --sep=' | ' {}", "a", [b"x", b"--sep= | ", b"a"]),
        ("x '{}'", "{}", [b"x", b"{}"]),
    ],
)
def test_what_a_template_becomes(template: str, argument: Any, words: list[bytes]) -> None:
    assert filled(template, argument, 7) == words


@pytest.mark.parametrize(
    ("template", "argument", "why"),
    [
        ("x {}", "-rf", "begins with a dash"),
        ("x {}", -5, "begins with a dash"),
        ("x {a}{b}", {"a": "", "b": "-x"}, "begins with a dash"),
        ("x {}-x", "", "begins with a dash"),
        ("x {} --", "-x", "begins with a dash"),
        ("x {}", "a\0b", "a NUL character"),
        ("x {}", ["a"], "a list: use {1}"),
        ("x {}", {"a": 1}, "a map: use {key}"),
        ("x {}", None, "the argument is null"),
        ("x {}", True, "the argument is true"),
        ("x {1} {3}", ["a", "b"], "only 2 parts"),
        ("x {0}", ["a", "b"], "only 2 parts"),
        ("x {1}", [["a"]], "a list"),
        ("x {name}", "a", "it is no map (for the text itself, the worker's --command writes {{name}})"),
        ("x {name}", {"other": 1}, "only other"),
    ],
)
def test_what_a_task_cannot_fill(template: str, argument: Any, why: str) -> None:
    with pytest.raises(Unfilled) as raised:
        filled(template, argument)
    assert why in str(raised.value)
    assert raised.value.do_not_retry


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("", "names no program"),
        ("'' {}", "names no program"),
        ("x 'a", "no closing quotation"),
        ("{} x", "cannot come from a task"),
        ("bin/{} x", "cannot come from a task"),
        ("gzip -c {} > {}.gz", "so > would be an argument"),
        ("gzip -c {} >out", "so >out would be an argument"),
        ("a {} 2>/dev/null", "so 2>/dev/null would be"),
        ("a {} | b", "so | would be"),
        ("a {} && b", "so && would be"),
        ("a {} ; b", "so ; would be"),
        ("bash -c 'rm {}'", "{} is inside code"),
        ("bash -lc 'echo ${name}' _ {}", "{name} is inside code"),
        ("/bin/sh -euo pipefail -c 'rm {1}'", "{1} is inside code"),
        ("env A=1 bash -c 'rm {}'", "{} is inside code"),
        ("nice python3.12 -W error -c 'print({})'", "{} is inside code"),
        ("perl -ne 'print {}' x", "{} is inside code"),
        ("perl -e'print {}'", "{} is inside code"),
        ("node --eval {} x", "{} is inside code"),
    ],
)
def test_what_no_operator_may_name(template: str, why: str) -> None:
    with pytest.raises(TemplateError) as raised:
        Template(template)
    assert why in str(raised.value)
    assert "\n" not in str(raised.value)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])).filter(lambda text: text[:1] != "-"))
def test_any_text_is_one_word_as_it_is(text: str) -> None:
    assert filled("x {} a{}b", text) == [b"x", text.encode(), b"a" + text.encode() + b"b"]
