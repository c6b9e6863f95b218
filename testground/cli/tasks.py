"""Commands on tasks and components: tasks, status, logs, collect, terminate, healthcheck."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testground.cli import options, session
from testground.cli.grammar import Command, UsageError

if TYPE_CHECKING:
    from testground.api.task import Task

EXIT_FAILED = 1
COLUMNS = ("ID", "DATE", "TEST PLAN", "TEST CASE", "DURATION", "STATE", "TYPE")

TASKS = """[bold]Example[/]: ids of the runs that are waiting

testground tasks | awk '/scheduled/ && $NF == "run" {print $1}'"""

STATUS = """[bold]Example[/]: everything known about a task, its request and its result included

testground status --task=d50dr5k1k8fs73c0nb8g --extended"""

LOGS = """[bold]Example[/]: follow a run that another command started

testground logs --task=d50dr5k1k8fs73c0nb8g --follow"""

COLLECT = """[bold]Example[/]: what the instances of a run wrote, as ./<run id>.tgz

testground collect d50dr5k1k8fs73c0nb8g --runner=local:exec"""

TERMINATE = """[bold]Example[/]: end every run of a runner at once

testground terminate --runner=local:exec"""

HEALTHCHECK = """[bold]Example[/]: see what a runner needs, and mend what is missing

testground healthcheck --runner=local:exec --fix"""


def tasks(ctx: typer.Context) -> None:
    """List the tasks of the daemon, newest first within each state."""
    from testground.api import rpc
    from testground.api.task import State, TaskType

    here = session.of(ctx)
    states = [State.SCHEDULED, State.PROCESSING, State.COMPLETE]
    request = rpc.TasksRequest(types=list(TaskType), states=states)
    with here.daemon(idle=True) as daemon, here.output.answer() as show:
        found = daemon.client.tasks(request, show)
    here.output.table([COLUMNS, *map(_row, found)])


def status(
    ctx: typer.Context,
    task: options.Task,
    extended: Annotated[bool, typer.Option("--extended", help="Show the request and the result too.")] = False,
) -> None:
    """Show the state of a task and its outcome."""
    here = session.of(ctx)
    with here.daemon(idle=True) as daemon, here.output.answer() as show:
        found = daemon.client.status(task, show)
    here.output.line(_described(found))
    if extended:
        wire = found.wire()
        here.output.line(f"\nInput:\n{_pretty(wire['input'])}\n\nResult:\n{_pretty(wire['result'])}")


def logs(
    ctx: typer.Context,
    task: options.Task,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Wait for more until the task has ended.")] = False,
) -> None:
    """Show what a task has logged, then its state. Leaving with Ctrl-C leaves the task alone."""
    here = session.of(ctx)
    with here.daemon() as daemon, here.output.following(f"task {task}") as show:
        found = daemon.client.logs(task, follow=follow, on_progress=show)
    here.output.line(_described(found))


def collect(
    ctx: typer.Context,
    run_id: Annotated[str, typer.Argument(metavar="RUN_ID", help="Id of the run, which is the id of its task.")] = "",
    *,
    runner: options.Runner,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="FILE", help="Where to write it; default: <run id>.tgz.")
    ] = "",
) -> None:
    """Fetch the outputs of a run as a .tgz."""
    from testground.cli import collecting

    if not run_id:
        raise UsageError("missing run id")
    here = session.of(ctx)
    with here.daemon(idle=True) as daemon:
        found = collecting.collect(here, daemon.client, runner, run_id, Path(output or f"{run_id}.tgz"))
    if not found:
        raise typer.Exit(EXIT_FAILED)


def terminate(
    ctx: typer.Context,
    runner: Annotated[str, typer.Option("--runner", "-r", metavar="ID", help="End all runs of this runner.")] = "",
    builder: Annotated[str, typer.Option("--builder", "-b", metavar="ID", hidden=True)] = "",  # none has any to end
) -> None:
    """End everything that a runner is busy with."""
    if runner and builder:
        raise UsageError("cannot accept runner and builder at the same time; please do one at a time")
    if not runner and not builder:
        raise UsageError("specify something to terminate")
    here = session.of(ctx)
    with here.daemon(idle=True) as daemon, here.output.answer() as show:
        daemon.client.terminate(runner, builder, show)


def healthcheck(
    ctx: typer.Context,
    runner: options.Runner,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what is missing.")] = False,
) -> None:
    """Check what a runner needs. Exit status 1: something is missing, and was not mended."""
    here = session.of(ctx)
    with here.daemon(idle=True) as daemon, here.output.answer() as show:
        report = daemon.client.healthcheck(runner, fix=fix, on_progress=show)
    here.output.line(f"finished checking runner {runner}")
    here.output.line(str(report))
    if report.checks_failed and not fix and report.fixes:
        here.output.note(f"'testground healthcheck --runner {runner} --fix' mends what it can; a run does so, too")
    if report.checks_failed or report.fixes_failed:
        raise typer.Exit(EXIT_FAILED)


def add_to(app: typer.Typer, panel: str) -> None:
    """These commands stand at the top level."""
    for function, epilog in (
        (tasks, TASKS),
        (status, STATUS),
        (logs, LOGS),
        (collect, COLLECT),
        (terminate, TERMINATE),
        (healthcheck, HEALTHCHECK),
    ):
        app.command(cls=Command, epilog=epilog, rich_help_panel=panel)(function)


def _row(task: Task) -> tuple[str, ...]:
    taken = (task.updated if task.finished else datetime.now(UTC)) - task.created
    return (
        task.id,
        f"{task.created.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}",
        _plan(task) or "-",
        task.case or "-",
        _duration(taken.total_seconds()),
        str(task.state),
        str(task.type),
    )


def _plan(task: Task) -> str:
    """A build keeps it in its request only (client-daemon §5.1)."""
    if task.plan or task.input is None:
        return task.plan
    return task.input.composition.global_.plan


def _duration(seconds: float) -> str:
    """Without blanks, so that columns can be counted: `1h2m3s`, `2m3s`, `3.4s`."""
    if seconds < 60:
        return f"{max(seconds, 0):.1f}s"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return (f"{hours}h" if hours else "") + f"{minutes}m{rest}s"


def _described(task: Task) -> str:
    lines = [
        f"ID:\t\t{task.id}",
        f"Priority:\t{task.priority}",
        f"Created:\t{_moment(task.created)}",
        f"Type:\t\t{task.type}",
        f"Status:\t\t{task.state}",
        f"Outcome:\t{task.outcome}",
        f"Last update:\t{_moment(task.updated)}",
    ]
    if task.error:
        lines.append(f"Error:\t\t{task.error}")
    return "\n".join(lines)


def _moment(moment: datetime) -> str:
    """As Go prints a time: `2026-11-23 18:29:40.270872 +0000 UTC`."""
    text = f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}".rstrip("0").rstrip(".")
    return f"{text} +0000 UTC"


def _pretty(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
