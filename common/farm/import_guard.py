"""A worker that imports a script must not run what the script runs."""

import sys
from pathlib import Path
from typing import Any

from .. import worker

_CHILD = Path(worker.__file__).with_name("child.py")


def refuse_while_imported() -> None:
    """Raise RuntimeError in a worker that is just importing the module which wants a farm."""
    main: Any = sys.modules.get("__main__")
    if getattr(main, "__file__", None) is None or not _is_child(main.__file__):
        return
    frame: Any = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__name__") != "__main__":
            raise RuntimeError(
                f"{frame.f_globals.get('__file__')} begins to use a farm when a worker imports it: put that below"
                ' `if __name__ == "__main__":`'
            )
        frame = frame.f_back


def _is_child(file: str) -> bool:
    try:
        return _CHILD.samefile(file)
    except OSError:
        return False
