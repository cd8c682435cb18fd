"""The command line of the page. What the page needs is imported when it runs."""

from pathlib import Path
from typing import Annotated

import typer

from .. import console, options
from ..default_files import DEFAULT_KEYS, DEFAULT_LEDGER
from ..errors import OperatorError
from ..help_page import CONNECTION, FILES, PRINT
from ..log_writer import LogFormat
from ..protocol.users import OBSERVER, READERS
from ..sink.postgres_place import with_site
from .settings import PORT

app = console.application()

_LIBRARIES = ("starlette", "uvicorn", "jinja2", "prometheus_client")
Ledger = Annotated[
    str | None,
    options.option(
        FILES,
        "TRADEWIND_LEDGER",
        "FILE",
        "Read results and history from this ledger.",
        default=f"{DEFAULT_LEDGER}, if it is here and there is no --key; else the sink is asked",
    ),
]
Key = Annotated[
    Path | None,
    options.file(CONNECTION, "TRADEWIND_KEY", "The key file to ask the sink with.", default="one from the key folder"),
]
Listen = Annotated[
    str,
    options.option(CONNECTION, "TRADEWIND_WEB_LISTEN", "HOST", "The address to listen at; others need --token-file."),
]
Port = Annotated[int, options.port("TRADEWIND_WEB_PORT", "The port of the page.")]
TokenFile = Annotated[
    Path | None,
    options.file(
        FILES,
        "TRADEWIND_WEB_TOKEN_FILE",
        "Keep the token in this file, which is made if it is missing.",
        default="a new token at each start",
    ),
]
AllowHost = Annotated[
    list[str] | None,
    options.option(
        CONNECTION,
        "TRADEWIND_WEB_ALLOW_HOST",
        "NAME",
        "Also answer under this name; may be given again.",
        "--allow-host",
    ),
]
RootPath = Annotated[
    str | None,
    options.option(CONNECTION, "TRADEWIND_WEB_ROOT_PATH", "PREFIX", "Where a reverse proxy has put the page."),
]
ShowValues = Annotated[
    bool,
    options.flag(PRINT, "TRADEWIND_WEB_SHOW_VALUES", "Show arguments, values and tracebacks too.", "--show-values"),
]


@app.command(**console.look())
def web(
    context: typer.Context,
    ledger: Ledger = None,
    site: options.Site = None,
    keys: options.Keys = DEFAULT_KEYS,
    key: Key = None,
    sink: options.Sink = None,
    listen: Listen = "127.0.0.1",
    port: Port = PORT,
    token_file: TokenFile = None,
    allow_host: AllowHost = None,
    root_path: RootPath = None,
    show_values: ShowValues = False,
    log_format: options.Log = LogFormat.text,
) -> None:
    """Serve a page that shows jobs, crew and failures, and metrics for Prometheus.

    It only reads. Its address, with a token, is printed at the start.
    """
    try:
        from .server import WebOptions, serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _LIBRARIES:
            raise
        raise OperatorError(
            f"the page needs {error.name}, which is not installed: run `pip install 'tradewind[web]'`"
        ) from None
    from ..transport.key_files import load_one_of
    from ..transport.key_folder import KeyFolder

    console.start_log("web", log_format)
    typed = console.typed_options(context)
    if "--ledger" not in typed and ("--key" in typed or "--sink" in typed):
        # A sink that was typed wins over a ledger that only the environment names.
        ledger = None
    if ledger is None and key is None and sink is None and DEFAULT_LEDGER.is_file():
        ledger = str(DEFAULT_LEDGER)
    if ledger is not None:
        ledger = with_site(ledger, site)
    path = key or KeyFolder(keys).local_made(OBSERVER)
    load_one_of(path, READERS)
    names, root = tuple(allow_host or ()), root_path or ""
    serve(WebOptions(path, sink, ledger, listen, port, token_file, names, root, show_values))
