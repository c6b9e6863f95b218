"""Every error a user can meet, as one tree.

    TestgroundError
    ├── ConfigError             the home directory or its .env.toml
    ├── PlanError               a plan or its manifest: missing, malformed, unknown case
    ├── CompositionError        a composition: malformed, inconsistent, does not fit its manifest
    ├── SourcesError            a directory that cannot be packed, an upload or archive that cannot be unpacked
    ├── RequestError            a request the daemon cannot read
    ├── BuildError              a build that failed, with the output of its tool
    ├── RunError                a run that could not be carried out
    ├── UnknownError            an unknown builder, runner, task or run; names the nearest one
    ├── QueueFullError          no room for one more waiting task
    ├── CanceledError           a task that was killed, timed out or interrupted
    ├── DaemonError             what a daemon answered, when it is none of the above
    │   ├── UnreachableError    no daemon answers at the endpoint
    │   └── StreamError         the daemon's answer broke off or is not in its format
    ├── AuthError               the daemon refuses the token
    ├── NetworkError            a change of an instance's network that cannot be made
    └── SyncError               the sync service refused a request
        ├── SyncLostError       the connection to the sync service is gone
        └── PeerLostError       a barrier or subscription that a dead instance will never meet

`code` travels in the `c` key of an error chunk, so that the client can raise the class that the daemon raised.
The message is the user's; it names the file, the key or the line. Standard library only: the SDK imports this file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class TestgroundError(Exception):
    """Base of all errors shown to a user: one message, a stable code, an exit code."""

    __test__ = False  # the name starts with "Test"; pytest must not collect it

    code = "error"
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def __str__(self) -> str:
        return self.message

    @property
    def headline(self) -> str:
        """The first line of the message; a tool's output may follow in the others."""
        return self.message.partition("\n")[0]


class ConfigError(TestgroundError):
    code = "config"


class PlanError(TestgroundError):
    code = "plan"


class CompositionError(TestgroundError):
    code = "composition"


class SourcesError(TestgroundError):
    code = "sources"


class RequestError(TestgroundError):
    code = "request"


class BuildError(TestgroundError):
    code = "build"


class RunError(TestgroundError):
    code = "run"


class UnknownError(TestgroundError):
    code = "unknown"


class QueueFullError(TestgroundError):
    code = "queue-full"


class CanceledError(TestgroundError):
    code = "canceled"


class DaemonError(TestgroundError):
    code = "daemon"


class UnreachableError(DaemonError):
    code = "unreachable"


class StreamError(DaemonError):
    code = "stream"


class AuthError(TestgroundError):
    code = "auth"


class NetworkError(TestgroundError):
    code = "network"


class SyncError(TestgroundError):
    code = "sync"


class SyncLostError(SyncError):
    code = "sync-lost"


class PeerLostError(SyncError):
    code = "peer-lost"


def from_code(code: str | None, message: str) -> TestgroundError:
    """Rebuild an error that crossed the wire; an unknown or missing code gives a `DaemonError`."""
    return _by_code().get(code or "", DaemonError)(message)


@contextmanager
def unwrapped() -> Iterator[None]:
    """Undo what a task group does to an exception that leaves it: raise the exception itself, not a group of one.

    Of several, the first that is meant for the user wins.
    """
    try:
        yield
    except BaseExceptionGroup as group:
        leaves = list(_leaves(group))
        ours = [leaf for leaf in leaves if isinstance(leaf, TestgroundError)]
        if ours or len(leaves) == 1:
            raise (ours or leaves)[0] from None
        raise


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`"; did you mean 'x'?"` for the nearest known name, or the list of what there is, or nothing."""
    import difflib  # costs a millisecond, which every instance of a run would pay

    names = sorted(set(known) - {""})
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    if 0 < len(names) <= 12:
        return f"; there is: {', '.join(names)}"
    return ""


_NEEDED = {
    "string": "a string",
    "int": "a whole number",
    "float": "a number",
    "finite": "a finite number",
    "bool": "true or false",
    "list": "a list",
    "tuple": "a list",
    "dict": "a table",
    "model": "a table",
}
_BOUNDS = {"ge": "at least {}", "gt": "more than {}", "le": "at most {}", "lt": "less than {}"}


def in_words(problem: Mapping[str, Any]) -> str:
    """What a value must be, from one of pydantic's findings, which speak of dictionaries and instances."""
    for bound, words in _BOUNDS.items():
        if bound in problem.get("ctx", {}):
            return f"{words.format(problem['ctx'][bound])} is needed"
    if problem["type"] == "literal_error":
        return _none_of(str(problem["input"]), problem["ctx"]["expected"])
    needed = _NEEDED.get(str(problem["type"]).partition("_")[0])
    return f"{needed} is needed" if needed else str(problem["msg"]).removeprefix("Value error, ")


def _none_of(value: str, expected: str) -> str:
    """`expected` is pydantic's: quoted words with commas and an "or" between them."""
    words = expected.split("'")[1::2]
    return f"'{value[:100]}' is not {expected}{did_you_mean(value, words)}"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _by_code() -> dict[str, type[TestgroundError]]:
    found: dict[str, type[TestgroundError]] = {}
    pending = [TestgroundError]
    while pending:
        cls = pending.pop()
        found[cls.code] = cls
        pending.extend(cls.__subclasses__())
    return found
