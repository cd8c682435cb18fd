"""The template of a command: split once, then filled with each task's argument. Nothing in it is ever run by a shell.

Children load this file by its path, so it imports nothing of ours.
"""

import json
import posixpath
import re
import shlex
from collections.abc import Callable
from typing import Any

_FORMS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".": lambda value: posixpath.splitext(value)[0],
    "/": posixpath.basename,
    "//": lambda value: posixpath.dirname(value) or b".",
    "/.": lambda value: posixpath.splitext(posixpath.basename(value))[0],
}
"""What stands behind the name in a placeholder, and what it makes of the value."""
_PLACEHOLDER = re.compile(r"\{(?P<twice>\{)?(?P<key>#|\d+|[A-Za-z_]\w*|)(?P<form>//|/\.|/|\.|)\}(?(twice)\})")
_QUOTED = re.compile(r"\\.|'[^']*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_SHELL_SYNTAX = re.compile(r"\d*>.*|<.*|\|{1,2}&?|&{1,2}|&>.*|;")
"""Words that mean something to a shell when nobody has quoted them."""
_INTERPRETER = re.compile(
    r"(ba|da|z|k|mk|c|tc|a)?sh|fish|pwsh|(python|pypy|perl|ruby|php|lua)[\d.]*|node(js)?|bun|deno|Rscript|osascript"
)
_CODE_OPTION = re.compile(r"-\w*[ceEpr]|--(eval|print|command|run|execute)|eval")
_CODE_INSIDE = re.compile(r"-\w*[ceE].|--(eval|command|execute)=")
"""The same with the code in the same word."""


_SAFE_CODE = "bash -c '... \"$1\" ...' _ {}"


class TemplateError(ValueError):
    """The operator's command cannot be a template; the text says why."""


class Unfilled(Exception):
    """The task's argument does not fit into the command; the text says why."""

    do_not_retry = True


class Placeholder:
    """A part of a word that a task's argument fills."""

    __slots__ = ("form", "key", "text")

    def __init__(self, text: str, key: str, form: str) -> None:
        self.text = text
        self.key = key
        self.form = _FORMS[form]


Word = list[bytes | Placeholder]


class Template:
    """A command whose words are known; only what stands in them is filled in."""

    def __init__(self, text: str) -> None:
        try:
            words = shlex.split(_QUOTED.sub(_as_shells_do, text))
        except ValueError as error:
            raise TemplateError(f"{str(error).lower()} in {text}") from None
        if not words or not words[0]:
            raise TemplateError("it names no program")
        if unquoted := [word for word in _QUOTED.sub("_", text).split() if _SHELL_SYNTAX.fullmatch(word)]:
            raise TemplateError(
                f"no shell runs it, so {unquoted[0]} would be an argument: use {_SAFE_CODE}, or quote it"
            )
        self.program = words[0]
        self._words = [_parsed(word) for word in words]
        if len(self._words[0]) > 1 or isinstance(self._words[0][0], Placeholder):
            raise TemplateError(f"the program itself, {words[0]}, cannot come from a task")
        if code := _code_with_placeholder(words, self._words):
            raise TemplateError(
                f"{code} is inside code, and a task's argument must never be code: put it behind the code, as a word"
                f" of its own, like {_SAFE_CODE}"
            )
        if not any(isinstance(part, Placeholder) for word in self._words for part in word):
            self._words.append(_parsed("{}"))
        first = next((at for at, word in enumerate(words) if word == "--"), len(self._words))
        self._may_be_option = [at < first and isinstance(word[0], Placeholder) for at, word in enumerate(self._words)]
        """By word: whether a program would take its value for an option if it began with a dash."""

    def fill(self, argument: Any, task: int) -> list[bytes]:
        """The command's words for this argument. Raises Unfilled."""
        filled = []
        for word, may_be_option in zip(self._words, self._may_be_option, strict=True):
            value = b"".join(part if isinstance(part, bytes) else _value(part, argument, task) for part in word)
            if may_be_option and value.startswith(b"-"):
                shown = value[:40].decode(errors="backslashreplace")
                raise Unfilled(
                    f"the argument {shown} begins with a dash, as options do: put -- before the placeholder in the"
                    " worker's --command"
                )
            filled.append(value)
        return filled


def _as_shells_do(quoted: re.Match[str]) -> str:
    """`shlex` keeps the backslash of \\$ between double quotes, where every shell takes it away."""
    if not quoted[0].startswith('"'):
        return quoted[0]
    return re.sub(r"\\(.)", lambda escape: escape[1] if escape[1] in "$`" else escape[0], quoted[0], flags=re.DOTALL)


def _parsed(word: str) -> Word:
    parts: Word = []
    at = 0
    for found in _PLACEHOLDER.finditer(word):
        if found["key"] == "#" and found["form"]:
            continue
        parts.append(word[at : found.start()].encode("utf-8", "surrogateescape"))
        at = found.end()
        if found["twice"]:
            parts.append(found[0][1:-1].encode())
        else:
            parts.append(Placeholder(found[0], found["key"], found["form"]))
    parts.append(word[at:].encode("utf-8", "surrogateescape"))
    # A word is never left out, not even an empty one.
    return _joined(parts) or [b""]


def _joined(parts: Word) -> Word:
    joined: Word = []
    for part in parts:
        if isinstance(part, bytes) and joined and isinstance(joined[-1], bytes):
            joined[-1] += part
        elif part:
            joined.append(part)
    return joined


def _code_with_placeholder(words: list[str], parsed: list[Word]) -> str | None:
    """The placeholder in the code that a word of the command gives to an interpreter, if there is one."""
    for at, word in enumerate(words):
        if not _INTERPRETER.fullmatch(posixpath.basename(word)):
            continue
        takes_value = False
        for code in range(at + 1, len(words)):
            option = words[code]
            if takes_value:
                takes_value = False
            elif _CODE_OPTION.fullmatch(option):
                if found := _first_placeholder(parsed[code + 1 : code + 2]):
                    return found
                takes_value = True
            elif _CODE_INSIDE.match(option) and (found := _first_placeholder([parsed[code]])):
                return found
            elif not option.startswith(("-", "+")):
                break
            else:
                # As in bash -o pipefail -c, or python -W error -c.
                takes_value = option[-1] in "oOWX" and len(option) > 1
    return None


def _first_placeholder(words: list[Word]) -> str | None:
    return next((part.text for word in words for part in word if isinstance(part, Placeholder)), None)


def _value(placeholder: Placeholder, argument: Any, task: int) -> bytes:
    key = placeholder.key
    if key == "#":
        return b"%d" % task
    if not key:
        found = argument
    elif key.isdigit():
        items = argument if isinstance(argument, list) else [argument]
        if not 1 <= int(key) <= len(items):
            raise Unfilled(f"the command has {placeholder.text}, but the argument has only {len(items)} parts")
        found = items[int(key) - 1]
    elif not isinstance(argument, dict) or key not in argument:
        what = f"only {', '.join(map(str, argument))}" if isinstance(argument, dict) else "no keys: it is no map"
        raise Unfilled(
            f"the command has {placeholder.text}, but the argument has {what} (for the text itself, the worker's"
            f" --command writes {{{placeholder.text}}})"
        )
    else:
        found = argument[key]
    value = placeholder.form(_encoded(found, placeholder.text))
    if b"\0" in value:
        raise Unfilled("the argument has a NUL character, which no program can be given")
    return value


def _encoded(value: Any, text: str) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, bytes):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool):
        return str(value).encode()
    if isinstance(value, list | dict):
        kind = "a list: use {1}, {2}" if isinstance(value, list) else "a map: use {key}"
    else:
        kind = json.dumps(value, default=repr)
    raise Unfilled(f"{text} needs text or a number, but the argument is {kind}")
