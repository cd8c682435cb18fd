"""The command line of `crew`: a command for each way to start workers.

Each command is in a file of its own, and is entered below. What it needs is imported when it runs, so that `--help`
and the shell's completion are quick.
"""

from .. import console
from ..help_page import Group
from .keep import keep
from .recipe_commands import container, kubernetes, systemd
from .slurm import slurm
from .ssh import ssh
from .worker_line import CrewCommand

app = console.application()


@app.callback(subcommand_metavar="COMMAND", **console.look(Group))
def crew() -> None:
    """Start workers on other machines, or print what starts them there.

    What stands behind `--` is what `tradewind worker` would be given there.
    """


app.command(**console.look(CrewCommand))(ssh)
app.command(**console.look(CrewCommand))(slurm)
app.command(**console.look(CrewCommand))(keep)
app.command(**console.look(CrewCommand))(systemd)
app.command(**console.look(CrewCommand))(kubernetes)
app.command(**console.look(CrewCommand))(container)
