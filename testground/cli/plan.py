"""Commands on plans, which all lie below `$TESTGROUND_HOME/plans`: plan create|import|list|rm, describe. No daemon."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from testground.cli import options, session
from testground.cli.grammar import Command, Group

if TYPE_CHECKING:
    from testground.cli.session import Session

PLANS = """[bold]Example[/]: a new plan, and what there is now

testground plan create --plan=hi

testground plan list --testcases"""

CREATE = """[bold]Example[/]: a plan that runs at once, and its first run

testground plan create --plan=hi

testground run single -p hi -t meet -b exec:python -r local:exec -i 2 --wait"""

IMPORT = """[bold]Example[/]: plans that stay where they are, and plans from a repository

testground plan import --from=./plans/ping

testground plan import --git --from=https://github.com/testground/testground"""

LIST = """[bold]Example[/]: every case of every plan

testground plan list --testcases"""

REMOVE = """[bold]Example[/]: forget a plan; what was imported without --git stays where it was

testground plan rm --plan=hi --yes"""

DESCRIBE = """[bold]Example[/]: builders, runners, cases and parameters of a plan

testground describe --plan=hi"""

app = typer.Typer(cls=Group, help="Create, import, list and remove plans.", epilog=PLANS)


@app.command("create", cls=Command, epilog=CREATE)
def create(
    ctx: typer.Context,
    plan: Annotated[str, typer.Option("--plan", "-p", metavar="NAME", help="Name of the new plan.")],
    target: Annotated[str, typer.Option("--target", metavar="LANGUAGE", help="python or go.")] = "python",
    module: Annotated[
        str, typer.Option("--module", metavar="PATH", help="Go module of the plan.")
    ] = "github.com/your/module/name",
    remote: Annotated[str, typer.Option("--remote", metavar="URL", help="Git remote to add as origin.")] = "",
) -> None:
    """Start a plan from a template that runs at once."""
    from testground.cli import scaffold

    here = session.of(ctx)
    directory = scaffold.create(here.env.home, plan, target=target, module=module, remote=remote)
    here.output.line(f"new test plan created under: {directory}")


@app.command("import", cls=Command, epilog=IMPORT)
def import_(
    ctx: typer.Context,
    source: Annotated[str, typer.Option("--from", metavar="PATH|URL", help="A plan, or a directory of plans.")],
    git: Annotated[bool, typer.Option("--git", help="Clone a repository instead of linking a directory.")] = False,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Name below the plans directory.")] = "",
) -> None:
    """Make a plan, or a directory of plans, known under a name."""
    from testground.cli import importing

    here = session.of(ctx)
    target = importing.target(here.env.home, source, name)
    if target.is_symlink() or target.exists():
        here.output.log("warn", "destination dir already exists", path=str(target))
        return
    if git:
        importing.clone(source, target)
        here.output.line(f"cloned plan {target} -> {source}")
    else:
        path = importing.link(source, target)
        here.output.line(f"created symlink {target} -> {path}")
    here.output.line("imported plans:")
    root = target.relative_to(here.env.home.plans).as_posix()
    _print_cases(here, [plan for plan in _plans(here) if plan == root or plan.startswith(f"{root}/")])


@app.command("list", cls=Command, epilog=LIST)
def list_(
    ctx: typer.Context,
    testcases: Annotated[bool, typer.Option("--testcases", help="A line per case: plan and case.")] = False,
) -> None:
    """List the plans that can be built and run."""
    here = session.of(ctx)
    if testcases:
        _print_cases(here, _plans(here))
        return
    for plan in _plans(here):
        here.output.line(plan)


@app.command("rm", cls=Command, epilog=REMOVE)
def remove(
    ctx: typer.Context,
    plan: options.Plan,
    yes: Annotated[bool, typer.Option("--yes", help="Really delete.")] = False,
) -> None:
    """Delete a plan."""
    from testground.cli import importing

    here = session.of(ctx)
    directory = importing.existing(here.env.home, plan)
    if not yes:
        here.output.line("really delete? pass --yes flag to confirm.")
        return
    importing.remove(directory)
    here.output.line(f"plan at {directory} removed.")


def describe(ctx: typer.Context, plan: options.Plan) -> None:
    """Say what a plan offers: builders, runners, cases, parameters."""
    from testground.cli import description
    from testground.plan import manifest

    here = session.of(ctx)
    found = manifest.load(manifest.find_plan(here.env.home, plan))
    here.output.line(description.of(found))


def add_to(root: typer.Typer, panel: str) -> None:
    """`describe` stands at the top level."""
    root.command("describe", cls=Command, epilog=DESCRIBE, rich_help_panel=panel)(describe)


def _plans(here: Session) -> list[str]:
    from testground.plan import manifest

    return manifest.plans(here.env.home)


def _print_cases(here: Session, plans: list[str]) -> None:
    """A manifest that cannot be read does not hide the other plans."""
    from testground.errors import PlanError
    from testground.plan import manifest

    for plan in plans:
        try:
            found = manifest.load(here.env.home.plans / Path(plan))
        except PlanError as error:
            here.output.log("warn", error.message)
            continue
        for case in found.testcases or []:
            here.output.line(f"{plan} {case.name}")
