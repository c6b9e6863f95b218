"""The entry points: the way from a started process to a case, and out again with an exit code."""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from typing import NoReturn

from testground.errors import PlanError, did_you_mean
from testground.sdk.environ import EnvError
from testground.sdk.instance import GRACE, Case, Instance, Interruption, arity
from testground.sdk.journal import Journal
from testground.sdk.runenv import RunEnv
from testground.sdk.verdict import crash, failure, judge

TERMINATION_GRACE = GRACE + 0.5
"""Seconds until the process ends on a signal, even when the case keeps the event loop from running."""

EXIT_GRACE = 2.0
"""Seconds for threads that the case left running; a case that has ended must not keep its process."""


def invoke(case: Case) -> NoReturn:
    """Run `case`, whichever test case the run asks for, and exit; see `invoke_map`."""
    _main(lambda env: case)


def invoke_map(cases: Mapping[str, Case]) -> NoReturn:
    """Run the test case that the run asks for, and exit with 0 for success, 1 for failure, 2 for a crash.

    A case is a coroutine function or a plain one, which runs in a thread of its own. With one parameter it is a plain
    case, `case(env)`. With two it is an initialised one, `case(env, init)`: connected to the sync service, network
    ready, sequence numbers claimed. It succeeds by returning, fails by raising `Failed`, and crashes by raising
    anything else.
    """
    _main(lambda env: _choose(cases, env.case))


def _main(choose: Callable[[RunEnv], Case]) -> NoReturn:
    env = _prepare()
    try:
        case = choose(env)
        arity(case)
    except PlanError as error:
        env._close_metrics()
        _refuse(env._journal, str(error))
    process = _Process(env)
    process.watch()
    try:
        asyncio.run(process.run(case))
    except BaseException as error:  # a fault of this package; the run must hear of it all the same
        env._journal.end(judge(error))
        sys.excepthook(type(error), error, error.__traceback__)
    env._close()
    sys.exit(process.exit_code())


class _Process:
    """What belongs to the process and not to the case: signals, threads, metrics endpoint, the end."""

    def __init__(self, env: RunEnv) -> None:
        self._env = env
        self._interruption = Interruption(env)
        self._ended = threading.Event()

    def watch(self) -> None:
        """Have signals and exceptions in threads end the case with a crash."""
        for number in (signal.SIGTERM, signal.SIGINT):
            with contextlib.suppress(ValueError):  # not in the main thread
                signal.signal(number, self._on_signal)
        print_exception = threading.excepthook

        def on_exception(args: threading.ExceptHookArgs) -> None:
            print_exception(args)
            if args.exc_value is not None and not self._ended.is_set() and args.exc_type is not SystemExit:
                self._interruption.interrupt(judge(args.exc_value))

        threading.excepthook = on_exception

    async def run(self, case: Case) -> None:
        close_metrics = _send_metrics(self._env)
        try:
            await Instance(self._env, case, self._interruption, self._leave).run()
        finally:
            close_metrics()
            self._ended.set()
            timer = threading.Timer(EXIT_GRACE, self._leave_threads)
            timer.daemon = True
            timer.start()

    def exit_code(self) -> int:
        verdict = self._env._journal.verdict
        return 2 if verdict is None else verdict.exit_code

    def _on_signal(self, number: int, frame: object) -> None:
        """Go on in a thread: the case may keep the event loop from running, and hold the locks of this one."""
        if not self._ended.is_set():
            _thread.start_new_thread(self._terminate, (number,))

    def _terminate(self, number: int) -> None:
        self._interruption.interrupt(crash(f"terminated by {signal.Signals(number).name}"))
        if not self._ended.wait(TERMINATION_GRACE):
            self._leave(f"the case did not end within {TERMINATION_GRACE:g} s after {signal.Signals(number).name}")

    def _leave_threads(self) -> None:
        alive = [t.name for t in threading.enumerate() if not t.daemon and t is not threading.main_thread()]
        self._leave(f"left behind {EXIT_GRACE:g} s after the end: {', '.join(alive) or 'tasks that go on'}")

    def _leave(self, reason: str) -> NoReturn:
        """Without waiting for threads and tasks; every line that was told is written already."""
        self._env._close_metrics()
        os.write(2, f"testground: {reason}\n".encode())
        os._exit(self.exit_code())


def _prepare() -> RunEnv:
    try:
        env = RunEnv.from_environ()
        env._open()
    except EnvError as error:
        _refuse(_early_journal(), str(error))
    except OSError as error:
        _refuse(_early_journal(), f"cannot write to the outputs directory: {error}")
    return env


def _early_journal() -> Journal:
    return Journal(os.environ.get("TEST_GROUP_ID", ""), os.environ.get("TEST_RUN", ""))


def _refuse(journal: Journal, reason: str) -> NoReturn:
    """Fail before there is anything to run."""
    verdict = failure(reason)
    journal.end(verdict)
    journal.output.close()
    sys.stderr.write(f"{reason}\n")
    sys.exit(verdict.exit_code)


def _choose(cases: Mapping[str, Case], name: str) -> Case:
    """Raises `PlanError` with the nearest name."""
    try:
        return cases[name]
    except KeyError:
        raise PlanError(f"unrecognized test case: {name}{did_you_mean(name, cases)}") from None


def _send_metrics(env: RunEnv) -> Callable[[], None]:
    """To `INFLUXDB_URL`, beside the files, unless the composition disables it. Returns what ends it."""
    if not env.influxdb_url or env.disable_metrics:
        return lambda: None
    from testground.sdk.influx import InfluxWriter

    writer = InfluxWriter(
        env.influxdb_url, f"{env.plan}-{env.case}", {"run": env.run, "group_id": env.group}, env.record_message
    )
    env._journal.listeners.append(writer.on_event)
    env.R().listeners.append(writer.on_result)
    env.D().listeners.append(writer.on_diagnostic)
    return writer.close
