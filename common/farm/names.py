"""What functions and jobs are called."""

import re
import secrets
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from .. import job_names

_FUNCTION = re.compile(r"[^\s:]+:[^\s:]+")


@dataclass(frozen=True, slots=True)
class NamedFunction:
    """A function as workers know it."""

    name: str
    """`module:function`."""
    exposed: str
    """What a private worker has to expose: its module, where that is enough."""
    script: str | None = None
    """The script that it was defined in, when that is the program itself."""


def named(function: str | Callable[..., Any]) -> NamedFunction:
    """The name under which workers find the function. Raises TypeError when it has none, ValueError for a bad name."""
    if isinstance(function, str):
        if _FUNCTION.fullmatch(function) is None:
            raise ValueError(f"{function!r}: name the function as MODULE:FUNCTION, like 'squares:square'")
        return NamedFunction(function, function)
    name, module = getattr(function, "__qualname__", None), getattr(function, "__module__", None)
    owner = getattr(function, "__self__", None)
    if owner is not None and not isinstance(owner, type | type(sys)):
        raise TypeError(f"{name} is a method of an object, which workers do not have: put a function into a module")
    if not callable(function) or not name or not module:
        raise TypeError(f"{function!r} is no function with a module: give one, or its name as 'module:function'")
    if "<" in name:
        kind = "a lambda" if name.endswith("<lambda>") else "defined inside another function"
        raise TypeError(f"{name} is {kind}, which workers cannot import: define it with `def` at the top of a module")
    script = None
    if module == "__main__":
        module, script = _main_module(name)
    elif _found(module, name) is not function:
        raise TypeError(f"{module}.{name} is another object than this function: give the name to import")
    return NamedFunction(f"{module}:{name}", _exposed(module, name, script), script)


def _main_module(name: str) -> tuple[str, str | None]:
    """How others import the program that runs, and its file when they find it by that only."""
    main: Any = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name != "__main__":
        return spec.name.removesuffix(".__main__") if spec.name.endswith(".__main__") else spec.name, None
    file = getattr(main, "__file__", None)
    path = Path(file).absolute() if file else None
    if path is not None and path.is_file() and not (path.stem.isidentifier() and path.suffix == ".py"):
        raise TypeError(
            f"{name} is defined in {path.name}, which workers cannot import by that name: call the file something like"
            f" {re.sub(r'^(?=[0-9])|[^A-Za-z0-9]+', '_', path.stem)}.py, or put {name} into a module of its own"
        )
    if path is None or not path.is_file():
        raise TypeError(
            f"{name} is defined in __main__, which workers cannot import: put it into a module of its own"
            " (in a notebook: a cell that begins with %%writefile mine.py), and import it from there"
        )
    return path.stem, str(path)


def _found(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _exposed(module: str, name: str, script: str | None) -> str:
    exported = (
        getattr(sys.modules["__main__" if script else module], "__all__", None) if module in sys.modules else None
    )
    is_public = "." not in name and not name.startswith("_") and (exported is None or name in exported)
    # Nobody wants all of Python's own functions.
    is_python = module.partition(".")[0] in sys.stdlib_module_names
    return module if is_public and not is_python else f"{module}:{name}"


def new_job(function: str) -> str:
    """The name of a job that was given none: its function, the time, and some letters of chance."""
    return f"{job_names.base(function)}-{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(4)}"


def check_job(name: str) -> str:
    """The name, if a job can have it. Raises ValueError."""
    if not isinstance(name, str) or not job_names.is_job(name):
        raise ValueError(f"job={name!r}: use letters, digits, dot, dash, colon and underscore, at most 100")
    return name
