"""The `testground` command: the tree of commands, and what becomes of the errors that reach the top.

Imported for each `--help`: everything heavy is imported by the command that needs it.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from testground.cli import build, grammar, interrupt, plan, run, serve, session, tasks
from testground.cli.grammar import Command, Group
from testground.cli.session import Session
from testground.errors import TestgroundError

EXIT_ERROR = 1

EPILOG = """[bold]First steps[/]: create a plan, run it with two instances, see what it said

testground plan create --plan=hi

testground run single -p hi -t meet -b exec:python -r local:exec -i 2 --wait"""

VERSION = """[bold]Example[/]: the version, for a bug report

testground version"""

WORK, PLANS, SERVICES = "Build and run", "Plans", "Services"

ORDER = ("run", "build", "collect", "tasks", "status", "logs", "terminate", "healthcheck", "plan", "describe")
"""Of the help; the others follow."""


class Root(Group):
    def list_commands(self, ctx: Any) -> list[str]:
        names = super().list_commands(ctx)
        return [name for name in ORDER if name in names] + [name for name in names if name not in ORDER]


app = typer.Typer(
    cls=Root,
    name="testground",
    epilog=EPILOG,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)
app.add_typer(run.app, name="run", rich_help_panel=WORK)
app.add_typer(build.app, name="build", rich_help_panel=WORK)
tasks.add_to(app, WORK)
app.add_typer(plan.app, name="plan", rich_help_panel=PLANS)
plan.add_to(app, PLANS)
serve.add_to(app, SERVICES)


@app.callback()
def root(
    ctx: typer.Context,
    endpoint: Annotated[
        str, typer.Option("--endpoint", metavar="URL", help="The daemon; default: the one of this machine.")
    ] = "",
    v: Annotated[bool, typer.Option("--v", help="Say more.")] = False,
    vv: Annotated[bool, typer.Option("--vv", help="Say more, and where an unexpected error comes from.")] = False,
) -> None:
    """Test, benchmark and simulate distributed and peer-to-peer systems.

    A test plan is a program. A run starts it as many instances, in groups, and says whether all of them succeeded.

    A command that finds no daemon starts one for its own duration.
    """
    here = session.of(ctx)
    here.endpoint = endpoint
    here.verbose = vv
    here.output.set_level(verbose=v or vv)


@app.command("version", cls=Command, epilog=VERSION, rich_help_panel=SERVICES)
def version(ctx: typer.Context) -> None:
    """Show which testground this is."""
    import testground
    from testground.cli import version

    output = session.of(ctx).output
    output.line("Testground")
    output.line(f"Git commit: {version.commit()}")
    output.line(f"Version: {testground.__version__}")


def main() -> None:
    """The entry point of the installed command."""
    _open_streams()
    sys.exit(run_command(sys.argv[1:]))


def run_command(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status. Prints every error; raises none."""
    here = Session()
    try:
        with interrupt.watched():
            status = _dispatch(argv, here)
        here.output.close()
        return status
    except BrokenPipeError:
        _abandon_stdout()
        return EXIT_ERROR
    except Exception as error:
        return _report(error, here)


def _open_streams() -> None:
    """Both exist, whatever the caller closed, and take every character, whatever the locale."""
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115 – for as long as the process lives
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _dispatch(argv: Sequence[str], here: Session) -> int:
    try:
        command = typer.main.get_command(app)
        line = grammar.normalize(argv, grammar.tree(command))
        return int(command.main(line, prog_name="testground", standalone_mode=False, obj=here) or 0)
    except interrupt.Interrupted as signal:
        here.output.line(f"interrupted by {signal}")
        return EXIT_ERROR
    except typer.TyperException as error:
        here.output.line(error.format_message())
        return EXIT_ERROR
    except TestgroundError as error:
        here.output.error(error)
        return error.exit_code


def _report(error: Exception, here: Session) -> int:
    try:
        here.output.unexpected(error, verbose=here.verbose)
    except OSError:
        here.output.note(f"cannot write to standard output: {error}")
        _abandon_stdout()
    return EXIT_ERROR


def _abandon_stdout() -> None:
    """Whoever read our output is gone, or its disk is full; the interpreter must not complain when it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
