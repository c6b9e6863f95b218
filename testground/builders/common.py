"""What all builders need: tools whose failure becomes a `BuildError`, artifacts that appear whole or not at all."""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import signal
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path, PurePosixPath

import anyio
from anyio import to_thread

from testground.config import EnvConfig
from testground.drivers import tools
from testground.drivers.trees import remove as remove
from testground.errors import BuildError
from testground.plugins import BuildInput, Output

CLEANUP_SECONDS = 60.0
"""How long the removal of a half-made artifact may take before it is left to the next purge."""

_under_way: set[Path] = set()
"""Half-made artifacts of builds under way, which a purge leaves alone."""

_TAIL_LINES, _TAIL_BYTES = 40, 4000

_SDK_SIGNS = {"go.mod": "Go", "package.json": "JavaScript", "Cargo.toml": "Rust", "pyproject.toml": "Python"}


async def run(
    what: str,
    argv: Sequence[str | Path],
    *,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    output: Output | None = None,
) -> bytes:
    """Run a build tool; all it says goes to `output`, the task log. Returns the end of what it said.

    Raises `BuildError` that starts with `what` and ends with the end of the output.
    """
    try:
        result = await tools.run_tool(argv, cwd=cwd, env=env, output=output.write if output else None)
    except OSError as error:
        raise BuildError(f"{what} could not be started: {argv[0]}: {error.strerror}") from error
    if result.returncode != 0:
        said = tail(result.output)
        raise BuildError(f"{what} {_ended(result.returncode)}{':' if said else ', without a word'}\n{said}".rstrip())
    return result.output


def tail(output: bytes) -> str:
    """The last lines of a tool's output, for an error message."""
    text = output[-_TAIL_BYTES:].decode("utf-8", "replace").strip("\n")
    return "\n".join(text.splitlines()[-_TAIL_LINES:])


@asynccontextmanager
async def partial(target: Path, build_id: str) -> AsyncIterator[Path]:
    """A path beside `target` to build at; whatever is still there at the end is removed."""
    path = target.with_name(f"{target.name}.partial-{build_id}")
    target.parent.mkdir(parents=True, exist_ok=True)
    _under_way.add(path)
    try:
        yield path
    finally:
        with anyio.move_on_after(CLEANUP_SECONDS, shield=True):
            await to_thread.run_sync(remove, path, abandon_on_cancel=True)
        _under_way.discard(path)


def publish(finished: Path, target: Path) -> None:
    """Make a finished artifact appear at `target` in one step, in the place of a stale one. Same file system."""
    try:
        finished.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.EISDIR, errno.ENOTDIR):
            raise
        stale = finished.with_name(f"{finished.name}.stale")
        target.rename(stale)
        finished.rename(target)
        remove(stale)


def identity(program: str) -> str:
    """Which file a program is, and which version of it; empty for one that is not on the PATH."""
    found = shutil.which(program)
    return f"{found}@{Path(found).stat().st_mtime_ns}" if found else ""


def is_executable(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


def move(source: Path, destination: Path) -> None:
    """Move a directory; copies only between file systems."""
    try:
        source.rename(destination)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copytree(source, destination, symlinks=True)


async def purge(builder: str, plan: str, env: EnvConfig, output: Output) -> None:
    """Remove all artifacts of a plan, finished or left half-made, and the engine's notes about them."""
    removed = await to_thread.run_sync(_purge, builder, plan, env.home.work)
    output.info(f"removed {removed} artifacts of plan {plan} built by {builder}")


def artifacts(builder: str, plan: str | None, work: Path) -> list[Path]:
    """What lies in the work directory for a builder, and for one plan if given.

    A hash has no dash, so plan `a` does not claim what plan `a-b` has.
    """
    name = re.escape(plan.replace("/", "-")) if plan is not None else ".+"
    pattern = re.compile(rf"{re.escape(builder.replace(':', '-'))}--{name}-[^-]+?(\.(artifact|partial).*)?")
    return [path for path in sorted(work.iterdir()) if pattern.fullmatch(path.name)] if work.is_dir() else []


def relative(text: str, key: str) -> str:
    """A path inside the plan, checked. Raises `BuildError` naming the option."""
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts or "\0" in text:
        raise BuildError(f"{key} = '{text}' must be a path inside the plan")
    return str(path)


def argument(text: str, key: str) -> str:
    """A value that goes onto a command line, which must not turn into an option there."""
    if text.startswith("-") or "\0" in text:
        raise BuildError(f"{key} = '{text}' must not start with a dash")
    return text


def linked_sdk(build: BuildInput, language: str, accept: Callable[[Path], bool]) -> Path | None:
    """The linked SDK if it is one for `language`.

    A composition may build groups in several languages with one linked SDK: an SDK for another language is a
    warning. Raises `BuildError` for a directory that is no SDK at all.
    """
    sdk = build.sources.sdk
    if sdk is None or accept(sdk):
        return sdk
    for sign, other in _SDK_SIGNS.items():
        if (sdk / sign).exists() and other != language:
            build.output.warn(f"the linked SDK is for {other}; this {language} build does not use it")
            return None
    raise BuildError(f"the linked SDK is not an SDK for {language}")


def _ended(returncode: int) -> str:
    if returncode > 0:
        return f"failed with exit code {returncode}"
    try:
        return f"was killed by {signal.Signals(-returncode).name}"
    except ValueError:
        return f"was killed by signal {-returncode}"


def _purge(builder: str, plan: str, work: Path) -> int:
    """Renamed before it is removed, so that no half-removed artifact looks whole."""
    removed = 0
    for path in artifacts(builder, plan, work):
        if path in _under_way:
            continue
        if not path.name.endswith(".artifact"):
            doomed = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
            try:
                path.rename(doomed)
            except FileNotFoundError:  # another purge was faster
                continue
            removed += 1
            path = doomed
        remove(path)
    return removed
