"""What the wheel carries for browsers is what its makers have published."""

import hashlib
import re

import pytest

from tests.conftest import TOP

STATIC = TOP / "common" / "web" / "static"
PUBLISHED = {
    "uplot-1.6.32.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uplot-1.6.32.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""dist/uPlot.iife.min.js and dist/uPlot.min.css of uplot@1.6.32 on npm."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_uplot_is_as_published(name: str) -> None:
    assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == PUBLISHED[name]


def test_uplot_comes_with_its_licence() -> None:
    assert "MIT License" in (STATIC / "uplot-LICENSE.txt").read_text()
    assert "Leon Sorokin" in (STATIC / "uplot-LICENSE.txt").read_text()


def test_scripts_make_no_html_of_strings() -> None:
    script = (STATIC / "page.js").read_text()
    assert re.findall(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval|new Function", script) == []


@pytest.mark.parametrize(
    "path", sorted((TOP / "common" / "web" / "templates").glob("*.html")), ids=lambda path: path.name
)
def test_templates_switch_no_escaping_off_and_have_no_scripts_inside(path) -> None:
    text = path.read_text()
    assert "|safe" not in text.replace(" ", "")
    assert "autoescape" not in text
    assert re.findall(r"<script(?! src=)|\son\w+=|javascript:", text) == []
    # An attribute without quotes could be ended by a space.
    assert re.findall(r"\s[\w-]+=\{\{", text) == []
