"""The command line of `tradewind`: a command for each role, imported when it is used."""

from importlib import import_module
from typing import Any

import typer

from . import console, options
from .help_page import Group

SUMMARIES = {
    "sink": "Collect the results of all jobs; look after results and keys.",
    "worker": "Run tasks in child processes on this machine.",
    "ventilator": "Run a function for every task of an input.",
    "web": "Serve a page that shows jobs, crew and failures.",
    "crew": "Start workers on other machines, or print what starts them there.",
    "doctor": "Look for what keeps this machine from working.",
}
app = console.application()


class Roles(Group):
    """The roles' commands, of which the one that is used is imported."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Their names."""
        return [*SUMMARIES]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name, None if there is none."""
        if cmd_name not in SUMMARIES:
            return None
        module = import_module(f".{cmd_name}.command", __package__)
        return console.without_completion(typer.main.get_command(module.app))

    def summaries(self, ctx: Any) -> list[tuple[str, str]]:
        """Each command with a sentence about it."""
        return [*SUMMARIES.items()]


@app.callback(subcommand_metavar="COMMAND", **console.look(Roles))
def tradewind(version: options.Version = False) -> None:
    """Run a Python function over many inputs on any machines, without a broker.

    Start the sink, start workers on any machines, and run the ventilator. `tradewind COMMAND --help` says more.
    """


def run() -> None:
    """Run the command line."""
    console.run(app)
