"""Translated pages say what the English ones say: the same commands, code, figures and links, in the same outline."""

import re
from collections import Counter
from pathlib import Path

import pytest

from tests.conftest import TOP

TRANSLATED = sorted([*TOP.glob("*.zh-CN.md"), *(TOP / "docs").glob("*.zh-CN.md")])
FENCED = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)#]*)(#[^)]*)?\)")


@pytest.fixture(params=TRANSLATED, ids=lambda page: page.name)
def pages(request: pytest.FixtureRequest) -> tuple[Path, Path]:
    """An English page and its translation."""
    return request.param.with_name(request.param.name.replace(".zh-CN", "")), request.param


def words(page: Path) -> str:
    """The page without its fenced blocks, and without the link to the other language."""
    text = re.sub(r"\A(# .*\n\n)\[.*\]\(.*\)\n", r"\1", page.read_text(encoding="utf-8"))
    return FENCED.sub("", text)


def commands(page: Path) -> list[tuple[str, str]]:
    """The fenced blocks, with their languages, without comments."""
    found = FENCED.findall(page.read_text(encoding="utf-8"))
    return [(language, re.sub(r" *# .*$", "", block, flags=re.MULTILINE)) for language, block in found]


def code(page: Path) -> Counter[str]:
    return Counter(re.findall(r"`([^`\n]+)`", words(page)))


def figures(page: Path) -> Counter[str]:
    """The numbers outside of code and links."""
    return Counter(re.findall(r"\d[\d,.]*(?<![,.])", LINK.sub("", re.sub(r"`[^`\n]+`", "", words(page)))))


def outline(page: Path) -> list[str]:
    """What each heading, table row, list item and picture begins with."""
    return re.findall(r"^(#+ |\| |- (?:\*\*)?|!\[)", words(page), re.MULTILINE)


def translated(page: Path, target: str) -> str:
    twin = target.removesuffix(".md") + ".zh-CN.md"
    return twin if target.endswith(".md") and (page.parent / twin).exists() else target


def test_there_are_translations() -> None:
    assert {"README.zh-CN.md", "from-the-queues.zh-CN.md"} <= {page.name for page in TRANSLATED}


def test_each_page_begins_with_a_link_to_its_other_language(pages: tuple[Path, Path]) -> None:
    for page, other in (pages, pages[::-1]):
        assert re.match(rf"# .*\n\n\[.*\]\({re.escape(other.name)}\)\n", page.read_text(encoding="utf-8"))


def test_commands_and_code_are_the_same(pages: tuple[Path, Path]) -> None:
    english, chinese = pages
    assert commands(chinese) == commands(english) != []
    assert code(chinese) == code(english)


def test_figures_are_the_same(pages: tuple[Path, Path]) -> None:
    english, chinese = pages
    assert figures(chinese) == figures(english)


def test_outline_is_the_same(pages: tuple[Path, Path]) -> None:
    english, chinese = pages
    assert outline(chinese) == outline(english)


def test_links_are_the_same_and_lead_to_translations_where_there_are_some(pages: tuple[Path, Path]) -> None:
    english, chinese = pages
    wanted = [
        # Headings of a translated page have names of their own.
        (twin, anchor if twin == target else bool(anchor))
        for target, anchor in LINK.findall(words(english))
        for twin in [translated(english, target)]
    ]
    found = [
        (target, bool(anchor) if ".zh-CN." in target else anchor) for target, anchor in LINK.findall(words(chinese))
    ]
    assert found == wanted
