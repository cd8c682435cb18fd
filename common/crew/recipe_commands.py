"""The commands that print recipes: `crew systemd`, `crew kubernetes` and `crew container`."""

import re
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from .. import __version__, console, options
from ..errors import OperatorError
from ..help_page import CONNECTION, PRINT
from ..plain_text import one_line
from . import recipes
from .worker_line import worker_line

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,50}[a-z0-9])?")
"""What Kubernetes takes for a name, with room for what it appends."""

Program = Annotated[str, options.option(PRINT, None, "COMMAND", "What to type for `tradewind` on that machine.")]
Folder = Annotated[
    str, options.option(PRINT, None, "FOLDER", "The folder on that machine that has the modules.", "--cwd")
]
KeyThere = Annotated[
    str, options.option(CONNECTION, None, "FILE", "The worker's key file on that machine; only root must read it.")
]
KeyHere = Annotated[
    Path | None,
    options.file(
        CONNECTION,
        None,
        "Print the Secret too, with this key file of a worker.",
        default="kubectl makes it, as the first lines say",
    ),
]
Name = Annotated[str, options.option(PRINT, None, "NAME", "The name of the Deployment, and with -key of the Secret.")]
Image = Annotated[str, options.option(PRINT, None, "IMAGE", "The image, as from `crew container`.")]
Replicas = Annotated[int, options.option(PRINT, None, "N", "How many workers to start.", min=0)]
Base = Annotated[str, options.option(PRINT, None, "IMAGE", "The image to begin with, which has Python.", "--from")]
Wheel = Annotated[str, options.option(PRINT, None, "FILE", "The wheel of Tradewind, in the folder of the build.")]


def systemd(
    context: typer.Context,
    program: Program = "/opt/tradewind/bin/tradewind",
    folder: Folder = "/srv/farm",
    key: KeyThere = "/etc/tradewind/worker.key_secret",
) -> None:
    """Print a unit for systemd, as /etc/systemd/system/tradewind-worker.service may have it."""
    line = worker_line(context)
    for option, path in (("--cwd", folder), ("--key", key)):
        if not path.startswith("/"):
            raise OperatorError(f"{option} {path}: systemd takes only a path that begins with /")
    _print(recipes.unit(_program_words(program), line.words, key, folder, line.grace_s))


def kubernetes(
    context: typer.Context,
    image: Image,
    name: Name = "tradewind-worker",
    replicas: Replicas = 1,
    key: KeyHere = None,
) -> None:
    """Print a Deployment for Kubernetes, which takes as many cores for each worker as this has slots."""
    line = worker_line(context)
    _check_image("--image", image)
    if not _LABEL.fullmatch(name):
        raise OperatorError(f"--name {name}: use small letters, digits and dashes, at most 52")
    secret = None if key is None else _secret(key, line.sink)
    _print(recipes.manifest(name, image, replicas, line.words, line.slots, line.grace_s, secret))


def container(
    context: typer.Context,
    base: Base = "docker.io/library/python:3.13-slim",
    wheel: Wheel = f"tradewind-{__version__}-py3-none-any.whl",
) -> None:
    """Print a Containerfile, for podman, buildah or docker. The modules are those of this folder."""
    line = worker_line(context)
    _check_image("--from", base)
    sources = [*dict.fromkeys(source for module in line.modules if (source := _source(module)))]
    for source in sources:
        if not Path(source).exists():
            print(
                f"crew: {one_line(source)} is not in this folder: build where it is, or take its COPY line out if the"
                " module is an installed one",
                file=sys.stderr,
            )
    _print(recipes.containerfile(base, wheel, sources, line.words))


def _program_words(text: str) -> list[str]:
    """What to type for `tradewind`. Raises OperatorError for what systemd would not start."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise OperatorError(f"--program {text}: {str(error).lower()}") from None
    if not words or ("/" in words[0] and not words[0].startswith("/")):
        raise OperatorError(f"--program {text}: systemd takes only a path that begins with /, or a name without /")
    return words


def _check_image(option: str, image: str) -> None:
    """Refuse what is no image's name. Raises OperatorError."""
    if not re.fullmatch(r"[^\s-]\S*", image):
        raise OperatorError(f"{option} {image!r}: give the name of an image, like registry.example/farm:1")


def _secret(path: Path, sink: str | None) -> str:
    """The key file's content. Raises OperatorError when a pod cannot use it."""
    from . import crew_key

    given = crew_key.own(path)
    if sink is None:
        crew_key.check_address(given, "give --sink HOST behind --")
    return given.text


def _source(module: str) -> str | None:
    """The file or folder that a module is in; None for one that every Python has."""
    top = module.partition(":")[0].partition(".")[0]
    if Path(top).is_dir():
        return f"{top}/"
    return None if top in sys.stdlib_module_names and not Path(f"{top}.py").exists() else f"{top}.py"


def _print(text: str) -> None:
    with console.pipe_may_close():
        print(text, end="")
