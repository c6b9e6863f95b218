"""`testground run`: run a plan, and say how it went."""

from __future__ import annotations

from typing import Annotated

import typer

from testground.cli import options, session
from testground.cli.grammar import Command, Group

SINGLE = """[bold]Example[/]: two instances of one case, followed to the verdict

testground run single -p hi -t meet -b exec:python -r local:exec -i 2 --wait"""

COMPOSITION = """[bold]Example[/]: all runs of a composition, one after the other, with a table of outcomes

testground run composition -f nightly.toml --collect --result-file=results.csv

testground run composition -f nightly.toml --run-ids=small,large --wait -w"""

app = typer.Typer(cls=Group, help="Run a plan: with flags alone, or from a composition file.", epilog=SINGLE)


@app.command("single", cls=Command, epilog=SINGLE)
@app.command("s", cls=Command, epilog=SINGLE, hidden=True)
def single(
    ctx: typer.Context,
    plan: options.Plan,
    testcase: options.Testcase,
    builder: options.Builder,
    runner: options.Runner,
    instances: options.Instances,
    test_param: options.TestParam = None,
    run_cfg: options.RunCfg = None,
    build_cfg: options.BuildCfg = None,
    dep: options.Dep = None,
    use_build: Annotated[
        str, typer.Option("--use-build", "-ub", metavar="ARTIFACT", help="Run this artifact instead of building.")
    ] = "",
    link_sdk: options.LinkSdk = "",
    wait: options.Wait = False,
    collect: options.Collect = False,
    collect_file: options.CollectFile = "",
    disable_metrics: Annotated[bool, typer.Option("--disable-metrics", help="Instances send no metrics.")] = False,
    metadata_repo: options.Repo = "",
    metadata_branch: options.Branch = "",
    metadata_commit: options.Commit = "",
) -> None:
    """Run one group of equal instances.

    Builds the plan first, unless nothing has changed since the last time.

    Queues the run and returns, unless it is told to wait; exit status 0 then means that every instance succeeded.
    """
    from testground.api.task import CreatedBy
    from testground.cli import request, waiting
    from testground.plan import composition, prepare

    work = composition.single(
        plan=plan,
        case=testcase,
        builder=builder,
        runner=runner,
        instances=instances,
        test_params=options.key_values(test_param, "test paremters"),
        run_config=options.typed_values(run_cfg, "run config"),
        build_config=options.typed_values(build_cfg, "build config"),
        dependencies=options.dependencies(dep),
        artifact=use_build,
        disable_metrics=disable_metrics,
    )
    here = session.of(ctx)
    here.output.log("info", request.SYNTHETIC)
    prepare.validate_for_run(work)
    created_by = CreatedBy(repo=metadata_repo, branch=metadata_branch, commit=metadata_commit)
    job = request.job(here, work, link_sdk, created_by)
    choices = waiting.Choices(wait=wait, collect=collect, collect_file=collect_file)
    raise typer.Exit(waiting.run(here, job, choices))


@app.command("composition", cls=Command, epilog=COMPOSITION)
@app.command("c", cls=Command, epilog=COMPOSITION, hidden=True)
def composition(
    ctx: typer.Context,
    file: options.File,
    run_ids: Annotated[
        str, typer.Option("--run-ids", metavar="ID,ID…", help="Runs of the file, in this order; default: all, sorted.")
    ] = "",
    ignore_artifacts: Annotated[
        bool, typer.Option("--ignore-artifacts", "-i", help="Build every group, even those with an artifact.")
    ] = False,
    write_artifacts: options.WriteArtifacts = False,
    link_sdk: options.LinkSdk = "",
    wait: options.Wait = False,
    collect: options.Collect = False,
    collect_file: options.CollectFile = "",
    result_file: Annotated[
        str,
        typer.Option("--result-file", "-O", metavar="FILE", help="Write outcomes as CSV: run, task, outcome, error."),
    ] = "",
    metadata_repo: options.Repo = "",
    metadata_branch: options.Branch = "",
    metadata_commit: options.Commit = "",
) -> None:
    """Run what a composition file describes: groups that differ, several runs, artifacts built before.

    Several runs are followed one after the other; otherwise the run is queued, unless it is told to wait.

    The file may contain Go templates, such as {{ .Env.NAME }} for a variable of the environment; the README has more.
    """
    from testground.api.task import CreatedBy
    from testground.cli import request, waiting
    from testground.plan import prepare

    here = session.of(ctx)
    work = request.load(here, file, prepare.validate_for_run)
    created_by = CreatedBy(repo=metadata_repo, branch=metadata_branch, commit=metadata_commit)
    job = request.job(here, work, link_sdk, created_by)
    choices = waiting.Choices(
        wait=wait,
        collect=collect,
        collect_file=collect_file,
        run_ids=[name.strip() for name in run_ids.split(",") if name.strip()],
        ignore_artifacts=ignore_artifacts,
        result_file=result_file,
        write_to=file if write_artifacts else None,
    )
    raise typer.Exit(waiting.run(here, job, choices))
