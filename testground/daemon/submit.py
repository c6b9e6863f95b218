"""/build and /run: an upload becomes a task (client-daemon §1.3, §7.3)."""

from __future__ import annotations

import contextlib
import secrets
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from pydantic import ValidationError

from testground import plugins
from testground.api import rpc
from testground.api.manifest import Manifest
from testground.api.model import WireModel, explain
from testground.api.task import Sources
from testground.config import Home
from testground.daemon import jsonbody
from testground.daemon.exchange import Exchange, failing
from testground.daemon.routes import post
from testground.errors import PlanError, RequestError, SourcesError
from testground.plan import manifest as manifests
from testground.plan import prepare, receive
from testground.plan.receive import Received

CLEANUP_SECONDS = 60
CONSUMING = "failed to consume request; err: "

Model = TypeVar("Model", bound=WireModel)


@post("/build", rpc.BuildRequest, multipart=True)
async def build(exchange: Exchange) -> str:
    """Queue a build of every group of a composition; the result is the id of the task."""
    home = exchange.env.home
    async with _directory(exchange) as directory:
        received = await _receive(exchange, directory)
        request = _parse(rpc.BuildRequest, received)
        sources = received.sources or await _own_sources(home, request.composition.global_.plan, directory)
        if sources is None or not sources.plan_dir:
            raise RequestError("bad request; err: plan directory not present")
        manifest = request.manifest or _find_manifest(received, home)
        with failing("engine build error: "):
            return exchange.engine.queue_build(request, manifest, sources)


@post("/run", rpc.RunRequest, multipart=True)
async def run(exchange: Exchange) -> str:
    """Queue a run of a composition; the result is the id of the task, which is also the id of the run.

    What is not given is chosen: the one run of the composition, and to build the groups that have no artifact.
    """
    home = exchange.env.home
    async with _directory(exchange) as directory:
        received = await _receive(exchange, directory)
        request = _parse(rpc.RunRequest, received)
        wanted = _groups_to_build(request)
        sources = received.sources
        if sources is None and wanted:
            sources = await _own_sources(home, request.composition.global_.plan, directory)
        if request.build_groups and (sources is None or not sources.plan_dir):
            raise RequestError(f"{CONSUMING}plan dir required for build")
        with failing("engine run error: "):
            plugins.runner(request.composition.global_.runner)  # a wrong one is the better complaint than no manifest
            run_ids = _run_ids(request)
        build_groups = wanted if sources is not None and sources.plan_dir else []
        manifest = request.manifest or _find_manifest(received, home)
        request = request.model_copy(update={"run_ids": run_ids, "build_groups": build_groups})
        with failing("engine run error: "):
            return exchange.engine.queue_run(request, manifest, sources)


@contextlib.asynccontextmanager
async def _directory(exchange: Exchange) -> AsyncIterator[Path]:
    """Where the sources of a request go. The task that comes of it removes it at its end; without one it goes now."""
    requests = exchange.env.home.work / "requests"
    directory = requests / exchange.id
    while directory.exists():
        directory = requests / secrets.token_hex(4)
    try:
        yield directory
    except BaseException:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await anyio.to_thread.run_sync(lambda: shutil.rmtree(directory, ignore_errors=True))
        raise


async def _receive(exchange: Exchange, directory: Path) -> Received:
    limit = exchange.env.daemon.max_upload_mb << 20
    with failing(CONSUMING):
        received = await receive.receive(exchange.headers.get("content-type"), exchange.body(), directory, limit)
        for warning in received.warnings:
            exchange.warn(warning)
        return replace(received, request=jsonbody.checked(received.request))


def _parse(model: type[Model], received: Received) -> Model:
    with failing(CONSUMING):
        try:
            return model.model_validate(jsonbody.checked(received.request))
        except ValidationError as error:
            raise RequestError(explain(error)) from error


async def _own_sources(home: Home, plan: str, directory: Path) -> Sources | None:
    """A copy of the daemon's own plan of that name; None if it has none (client-daemon §7.3 no. 2)."""
    try:
        found = manifests.find_plan(home, plan)
    except PlanError:
        return None
    target = directory / "plan"
    with failing(CONSUMING):
        try:
            await anyio.to_thread.run_sync(lambda: shutil.copytree(found, target, symlinks=True))
        except (OSError, shutil.Error) as error:
            raise SourcesError(f"cannot copy the plan {plan}: {error}") from error
    return Sources(base_dir=str(directory), plan_dir=str(target))


def _find_manifest(received: Received, home: Home) -> Manifest:
    with failing(CONSUMING):
        return receive.find_manifest(received, home)


def _run_ids(request: rpc.RunRequest) -> list[str]:
    composition = prepare.generate_default_run(request.composition)
    run_ids = request.run_ids or [run.id for run in composition.runs or []]
    if len(run_ids) > 1:
        raise RequestError("cannot specify multiple run ids for now")
    return run_ids


def _groups_to_build(request: rpc.RunRequest) -> list[int]:
    if request.build_groups is not None:
        return request.build_groups
    return [index for index, group in enumerate(request.composition.groups or []) if not group.run.artifact]
