"""`testground build`: build a plan without running it."""

from __future__ import annotations

import typer

from testground.cli import options, session
from testground.cli.grammar import Command, Group

SINGLE = """[bold]Example[/]: build, and name the artifact for `run single --use-build`

testground build single --plan=hi --builder=exec:python --wait"""

COMPOSITION = """[bold]Example[/]: build every group and store the artifacts in the file

testground build composition --file=nightly.toml --wait --write-artifacts"""

PURGE = """[bold]Example[/]: forget the cached builds of a plan

testground build purge --builder=exec:go --plan=ping"""

app = typer.Typer(cls=Group, help="Build a plan without running it, or forget what builds left behind.", epilog=SINGLE)


@app.command("single", cls=Command, epilog=SINGLE)
@app.command("s", cls=Command, epilog=SINGLE, hidden=True)
def single(
    ctx: typer.Context,
    plan: options.Plan,
    builder: options.Builder,
    build_cfg: options.BuildCfg = None,
    dep: options.Dep = None,
    link_sdk: options.LinkSdk = "",
    wait: options.Wait = False,
) -> None:
    """Build a plan with one builder."""
    from testground.cli import request, waiting
    from testground.plan import composition, prepare

    work = composition.single(
        plan=plan,
        builder=builder,
        build_config=options.typed_values(build_cfg, "build config"),
        dependencies=options.dependencies(dep),
    )
    here = session.of(ctx)
    here.output.log("info", request.SYNTHETIC)
    waiting.build(here, request.job(here, prepare.validate_for_build(work), link_sdk), wait=wait)


@app.command("composition", cls=Command, epilog=COMPOSITION)
@app.command("c", cls=Command, epilog=COMPOSITION, hidden=True)
def composition(
    ctx: typer.Context,
    file: options.File,
    write_artifacts: options.WriteArtifacts = False,
    link_sdk: options.LinkSdk = "",
    wait: options.Wait = False,
) -> None:
    """Build every group of a composition file; equal groups are built once."""
    from testground.cli import request, waiting
    from testground.plan import prepare

    here = session.of(ctx)
    work = request.load(here, file, prepare.validate_for_build)
    job = request.job(here, work, link_sdk)
    waiting.build(here, job, wait=wait, write_to=file if write_artifacts else None)


@app.command("purge", cls=Command, epilog=PURGE)
@app.command("p", cls=Command, epilog=PURGE, hidden=True)
def purge(ctx: typer.Context, builder: options.Builder, plan: options.Plan) -> None:
    """Forget what the builds of a plan left behind."""
    here = session.of(ctx)
    with here.daemon(idle=True) as daemon, here.output.answer() as show:
        daemon.client.purge(builder, plan, show)
    here.output.line(f"finished purging testplan {plan} for builder {builder}")
