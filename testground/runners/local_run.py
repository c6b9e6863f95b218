"""One run of `local:exec` under way: its instances and their states, its early end, its verdict."""

from __future__ import annotations

import os
import platform
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import anyio
from pydantic import BeforeValidator, field_validator

from testground.api.task import RunResult
from testground.drivers import namespaces
from testground.errors import unwrapped
from testground.plugins import ComponentConfig, RunGroupInput, RunInput
from testground.runners import advice, environment, events, hosts, outputs, verdict
from testground.runners.host_network import HostNetwork, HostSidecar
from testground.runners.instance import Stage
from testground.runners.isolated_network import IsolatedNetwork
from testground.runners.local_instance import WAITING, LocalInstance
from testground.sync.service import Member, Wait

RUNNER = "local:exec"
STARTS_AT_ONCE = 16
STATES = ("running", "ok", "failed")


def _listed(value: object) -> object:
    """A list can be written in a command as `a,b`."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class LocalExecConfig(ComponentConfig):
    """Options of `local:exec`."""

    network: Literal["host", "isolated"] = "host"
    """`host`: the instances share the machine's network. `isolated`: each has addresses of its own in networks of the
    run, with a sidecar. Linux only."""

    sidecar: bool = False
    """On the host's network, do what a sidecar does at their start, for plans that need one, as all on sdk-rust
    do. Linux only."""

    additional_hosts: Annotated[tuple[str, ...], BeforeValidator(_listed)] = ()
    """Hosts that isolated instances reach whatever their plan asks for, `name` or `name=address`; in a command,
    separated by commas."""

    redis: bool = False
    """The sync service also speaks Redis, at `REDIS_HOST` and `REDIS_PORT`: for plans on sdk-go 0.2.6 or 0.2.7."""

    @field_validator("additional_hosts")
    @classmethod
    def _readable(cls, values: tuple[str, ...]) -> tuple[str, ...]:
        hosts.parse(values)
        return values


@dataclass(frozen=True, slots=True)
class Prepared:
    """What an instance starts with."""

    variables: dict[str, str]
    outputs: Path
    temp: Path
    files: Mapping[str, Path]
    """What it finds at some of the machine's paths."""
    home: namespaces.Home | None


class LocalRun:
    """One run under way."""

    def __init__(self, run: RunInput, config: LocalExecConfig, work: Path) -> None:
        self._run, self._config, self._work = run, config, work
        self.stage = Stage(run.output, time.monotonic())
        self._start_time = datetime.now(UTC)
        self._outputs = outputs.directory(run.env.home, RUNNER, run.plan, run.run_id)
        self._instances = [
            LocalInstance(self, group, index) for group in run.groups for index in range(group.instances)
        ]
        self._by_member = {instance.member: instance for instance in self._instances}
        self.network = _network(run, config, list(self._by_member))
        self._states = {group.id: Counter({WAITING: group.instances}) for group in run.groups}
        self._first_waits: list[Wait] | None = None

    async def carry_out(self) -> RunResult:
        run, network = self._run, self.network
        await network.check()
        run.sync.service.begin_run(run.run_id, self._by_member, self._on_event, on_config=network.configure)
        try:
            with unwrapped():
                async with network.running(self._work), anyio.create_task_group() as tasks:
                    tasks.start_soon(self._stop_early, tasks.cancel_scope)
                    await self._live()
                    tasks.cancel_scope.cancel()
            return self._verdict()
        finally:
            run.sync.close_doors(run.run_id)
            run.sync.service.end_run(run.run_id)

    async def _live(self) -> None:
        starts = anyio.CapacityLimiter(STARTS_AT_ONCE)
        async with anyio.create_task_group() as tasks:
            for instance in self._instances:
                tasks.start_soon(instance.live, starts)

    def enter(self, instance: LocalInstance, state: str) -> None:
        """Note an instance's new state, and tell clients how many of its group are in which."""
        group = instance.group
        states = self._states[group.id]
        states[instance.state] -= 1
        states[state] += 1
        instance.state = state
        self._run.output.states(group.id, {"total": group.instances, **{name: states[name] for name in STATES}})

    def died(self, instance: LocalInstance, reason: str) -> None:
        """Remember where the others stood when the first one died, then let the living know."""
        service = self._run.sync.service
        if self._first_waits is None:
            self._first_waits = [wait for wait in service.waiting(self._run.run_id) if wait.member != instance.member]
        service.member_ended(instance.member, reason)

    async def _stop_early(self, scope: anyio.CancelScope) -> None:
        stop = self._run.stop
        await stop.wait()
        if stop.timed_out:
            self._run.output.warn("run canceled after reaching the task timeout")
        else:
            self._run.output.warn("run canceled", reason=stop.reason)
        self._note_stop()
        scope.cancel()

    def _note_stop(self) -> None:
        """Say of each instance still running where it stood."""
        waits = self._run.sync.service.waiting(self._run.run_id)
        if self._first_waits is None:
            self._first_waits = waits
        by_member: dict[Member | None, list[Wait]] = {}
        for wait in waits:
            by_member.setdefault(wait.member, []).append(wait)
        for instance in self._instances:
            if instance.ledger.ended_after is None:
                place = verdict.waiting_text(by_member.get(instance.member, ()))
                where = f", waiting {place}" if place else ""
                what = "had not started" if instance.state == WAITING else f"was still running{where}"
                instance.ledger.stopped(f"{what} when the run was ended: {self._run.stop.reason}")

    def _verdict(self) -> RunResult:
        result = verdict.judge([instance.ledger for instance in self._instances], self._run.stop)
        for line in verdict.explain(result, self._first_waits or []):
            self._run.output.error(line)
        connected = self._run.sync.service.connected(self._run.run_id)
        for hint in advice.advise(result, connected, sidecar=self.network.sidecar, redis=self._config.redis):
            self._run.output.error(hint)
        return result

    def _on_event(self, member: Member | None, payload: dict[str, Any]) -> None:
        if member is not None and member in self._by_member:
            self._by_member[member].ledger.note(events.parse_event(payload))

    async def prepare(self, member: Member, group: RunGroupInput) -> Prepared:
        """Make the directories of an instance and open its doors. Raises `OSError`."""
        target = self._outputs / group.id / str(member.index)
        target.mkdir(parents=True, exist_ok=True)
        private = self._work / group.id / str(member.index)
        temp = private / "temp"
        temp.mkdir(parents=True)
        place = await self.network.place(member, private)
        variables = environment.test_variables(
            self._run,
            group,
            outputs=target,
            temp=temp,
            subnet=self.network.subnet,
            sidecar=self.network.sidecar,
            start_time=self._start_time,
        )
        extras = {
            "HOME": os.environ.get("HOME", str(temp)),
            "HOSTNAME": place.home.hostname if place.home is not None else platform.node(),
            "PATH": os.environ.get("PATH", os.defpath),
            "TMPDIR": str(temp),
        }
        return Prepared({**variables, **place.variables, **extras}, target, temp, place.files, place.home)

    @property
    def run(self) -> RunInput:
        return self._run


def _network(run: RunInput, config: LocalExecConfig, members: Sequence[Member]) -> HostNetwork:
    if config.network == "isolated":
        return IsolatedNetwork(run, members, redis=config.redis, hosts=hosts.parse(config.additional_hosts))
    if config.additional_hosts:
        run.output.warn(
            'local:exec: additional_hosts is for network = "isolated"; on the machine\'s network, instances reach what '
            "the machine reaches"
        )
    return (HostSidecar if config.sidecar else HostNetwork)(run, redis=config.redis)
