"""Serves the page until SIGTERM or Ctrl-C."""

import contextlib
import errno
import ipaddress
import logging
import re
import signal
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from ..errors import OperatorError
from ..plain_text import host_port
from ..protocol.sink_addresses import is_loopback
from .app import make_app
from .books import check_named
from .guard import Guard
from .observer import Observer
from .token_file import kept_token, new_token

log = logging.getLogger(__name__)

_GRACE_S = 2
_ROOT = re.compile(r"(/[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True)
class WebOptions:
    """The command line."""

    key: Path
    sink: str | None
    ledger: str | None
    listen: str
    port: int
    token_file: Path | None
    allow_hosts: tuple[str, ...]
    root: str
    show_values: bool


class _Server(uvicorn.Server):
    """Ends in order at the signals, as the roles do."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let the signals end the serving, and nothing else."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self.handle_exit)
        yield


def serve(options: WebOptions) -> None:
    """Serve the page. Raises OperatorError."""
    if options.root and _ROOT.fullmatch(options.root) is None:
        raise OperatorError("--root-path begins with a slash and does not end with one, like /tradewind")
    if options.token_file is None and not is_loopback(options.listen):
        raise OperatorError(
            f"--listen {options.listen} lets other machines see the page: give --token-file FILE too, or leave --listen"
            f" out and use `ssh -L {options.port}:localhost:{options.port}`"
        )
    if options.ledger is not None:
        check_named(options.ledger)
    token = new_token() if options.token_file is None else kept_token(options.token_file)
    listener = _listen(options.listen, options.port)
    host, port = listener.getsockname()[:2]
    observer = Observer(options.key, options.sink, options.ledger)
    guard = Guard(token, [options.listen, *options.allow_hosts])
    app = make_app(observer, guard, options.root, port, options.show_values)
    config = uvicorn.Config(
        app,
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        root_path=options.root,
        timeout_graceful_shutdown=_GRACE_S,
    )
    # What it says of itself is for its makers.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    observer.start()
    log.info("listening at %s, port %d", host, port)
    # To standard output, because a token must not get into a log.
    place = f"http://{host_port(host, port)}{options.root}/"
    print(f"{place}?token={token}" if options.token_file is None else place, flush=True)
    try:
        _Server(config).run(sockets=[listener])
    finally:
        observer.end()
        observer.join()


def _listen(host: str, port: int) -> socket.socket:
    if host == "*":
        host = "0.0.0.0"
    try:
        family = socket.AF_INET6 if ":" in host and ipaddress.ip_address(host.partition("%")[0]) else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=128)
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
            raise OperatorError(f"port {port} is in use: give another --port") from None
        reason = error.strerror if isinstance(error, OSError) else "it is no address"
        raise OperatorError(f"cannot listen at {host}: {reason}; give another --listen") from None
