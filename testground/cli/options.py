"""Flags that several commands share (client-daemon §6.2), and what their values mean."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from testground.cli.grammar import FALSE, TRUE, UsageError

if TYPE_CHECKING:
    from testground.api.composition import Dependency

_KEY_VALUE = "KEY=VALUE"

Plan = Annotated[str, typer.Option("--plan", "-p", metavar="NAME", help="Plan, as `testground plan list` names it.")]
Builder = Annotated[str, typer.Option("--builder", "-b", metavar="ID", help="Builder, such as exec:python.")]
Runner = Annotated[str, typer.Option("--runner", "-r", metavar="ID", help="Runner, such as local:exec.")]
Testcase = Annotated[str, typer.Option("--testcase", "-t", metavar="NAME", help="Case of the plan.")]
Instances = Annotated[int, typer.Option("--instances", "-i", min=0, metavar="N", help="Number of instances.")]
File = Annotated[Path, typer.Option("--file", "-f", metavar="FILE", help="Composition file (TOML, with Go templates).")]
BuildCfg = Annotated[
    list[str] | None, typer.Option("--build-cfg", metavar=_KEY_VALUE, help="Option of the builder; repeatable.")
]
RunCfg = Annotated[
    list[str] | None, typer.Option("--run-cfg", metavar=_KEY_VALUE, help="Option of the runner; repeatable.")
]
TestParam = Annotated[
    list[str] | None,
    typer.Option("--test-param", "-tp", metavar=_KEY_VALUE, help="Parameter of the case; repeatable."),
]
Dep = Annotated[
    list[str] | None,
    typer.Option("--dep", "-d", metavar="MODULE=TARGET@VERSION", help="Replace a Go dependency; repeatable."),
]
LinkSdk = Annotated[str, typer.Option("--link-sdk", metavar="DIR", help="Build with the SDK in this directory.")]
Wait = Annotated[bool, typer.Option("--wait", help="Follow the task to its end; the exit status is its outcome.")]
WriteArtifacts = Annotated[
    bool, typer.Option("--write-artifacts", "-w", help="Store the artifacts in the composition file (with --wait).")
]
Collect = Annotated[bool, typer.Option("--collect", help="Wait, then fetch the outputs as a .tgz.")]
CollectFile = Annotated[
    str, typer.Option("--collect-file", "-o", metavar="NAME", help="Name for the outputs; .tgz is appended.")
]
Repo = Annotated[str, typer.Option("--metadata-repo", metavar="OWNER/NAME", help="Repository this run belongs to.")]
Branch = Annotated[str, typer.Option("--metadata-branch", metavar="NAME", help="Branch this run belongs to.")]
Commit = Annotated[str, typer.Option("--metadata-commit", metavar="SHA", help="Commit this run belongs to.")]
Task = Annotated[str, typer.Option("--task", "-t", metavar="ID", help="Task, as `testground tasks` names it.")]


def key_values(pairs: Sequence[str] | None, what: str) -> dict[str, str]:
    """`KEY=VALUE` split at the first `=`; the last of a repeated key wins. Raises `UsageError`."""
    found: dict[str, str] = {}
    for pair in pairs or ():
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"failed while parsing {what}: invalid key-value: {pair}")
        found[key] = value
    return found


def typed_values(pairs: Sequence[str] | None, what: str) -> dict[str, Any]:
    """As `key_values`, with values that look like a number, a boolean or a quoted string taken as one."""
    return {key: typed(value) for key, value in key_values(pairs, what).items()}


def dependencies(pairs: Sequence[str] | None) -> list[Dependency]:
    """`MODULE=TARGET@VERSION`; an empty target means the module itself. Raises `UsageError`."""
    from testground.api.composition import Dependency

    found = []
    for module, text in key_values(pairs, "dependency overrides").items():
        target, _, version = text.partition("@")
        if text.count("@") != 1:
            raise UsageError(f"invalid target-version: {text}")
        found.append(Dependency(module=module, target=target, version=version))
    return found


_INT = re.compile(r"[+-]?[0-9]{1,40}")
_FLOAT = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_QUOTED = re.compile(r'"(?:[^"\\\n]|\\.)*"')


def typed(text: str) -> Any:
    """An integer, else a float, else a boolean, else what stands between quotes, else the text (§6.2)."""
    if _INT.fullmatch(text) and -(2**63) <= int(text) < 2**63:
        return int(text)
    if _FLOAT.fullmatch(text) and (number := float(text)) not in (float("inf"), float("-inf")):
        return number
    if text in TRUE or text in FALSE:
        return text in TRUE
    return _unquoted(text)


def _unquoted(text: str) -> str:
    import json

    if len(text) >= 2 and text[0] == text[-1] == "`" and "`" not in text[1:-1]:
        return text[1:-1]
    if _QUOTED.fullmatch(text):
        try:
            return str(json.loads(text))
        except ValueError:
            return text
    return text
