"""How an instance ended: success, failure (it looked and found fault) or crash (it could not go on)."""

from __future__ import annotations

import linecache
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from testground.errors import NetworkError, PeerLostError, SyncLostError
from testground.sdk.params import ParamError


class Failed(Exception):
    """Raise it in a case to fail the instance: `raise Failed("3 of 5 peers answered")`."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`exit_code` is 0, 1 or 2. Other SDKs exit with 0 whatever happened; runners look at events first."""

    exit_code: int
    error: str = ""
    stacktrace: str = ""


SUCCESS = Verdict(0)


def failure(error: str) -> Verdict:
    return Verdict(1, error)


def crash(error: str, stacktrace: str = "") -> Verdict:
    return Verdict(2, error, stacktrace)


def judge(error: BaseException) -> Verdict:
    """A failure when all that was raised says so: `Failed`, a failed assertion, a bad parameter, a dead peer.

    Everything else is a crash. Exception groups count by what they hold.
    """
    leaves = list(_leaves(error))
    if all(isinstance(leaf, _FAILURES) for leaf in leaves):
        return failure("; ".join(dict.fromkeys(map(_describe, leaves))))
    worst = next(leaf for leaf in leaves if not isinstance(leaf, _FAILURES))
    return crash(_describe(worst), format_stack(error))


def format_stack(error: BaseException) -> str:
    """The traceback without the frames of this package that lead to the plan's code."""
    return "".join(traceback.format_exception(type(error), error, _trim(error.__traceback__)))


_FAILURES = (Failed, AssertionError, ParamError, PeerLostError)
_OURS = str(Path(__file__).parent)


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _describe(error: BaseException) -> str:
    if isinstance(error, AssertionError):
        return str(error) or f"assertion failed{_source(error.__traceback__)}"
    if isinstance(error, SystemExit):
        return f"the case called sys.exit({error.code!r})"
    if isinstance(error, (*_FAILURES, SyncLostError, NetworkError)):
        return str(error) or type(error).__name__
    return "".join(traceback.format_exception_only(error)).strip()


def _source(trace: TracebackType | None) -> str:
    """`: assert x == 3 (main.py:12)`, of the innermost frame."""
    if trace is None:
        return ""
    while trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename
    text = linecache.getline(file, trace.tb_lineno).strip()
    return f": {text} ({Path(file).name}:{trace.tb_lineno})"


def _trim(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_next and trace.tb_frame.f_code.co_filename.startswith(_OURS):
        trace = trace.tb_next
    return trace
