"""Slack messages and GitHub commit statuses at the begin and the end of runs (client-daemon §5.9).

They are sent beside the work: none delays a task or makes it fail. Addresses hold secrets, so that no log names them.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import anyio
from anyio.abc import TaskGroup, TaskStatus

from testground.api.task import Task
from testground.config import DaemonConfig
from testground.engine import announcements
from testground.engine.announcements import Announcement
from testground.errors import ConfigError

if TYPE_CHECKING:
    import httpx

TIMEOUT_SECONDS = 10.0
DRAIN_SECONDS = 5.0
"""How long what is under way may take when the daemon ends."""

log = logging.getLogger(__name__)


class Notifier:
    """One per daemon. `changed` may be called while `serve` runs."""

    def __init__(self, config: DaemonConfig) -> None:
        self._config = config
        self._closing = anyio.Event()
        self._group: TaskGroup | None = None
        self._http: httpx.AsyncClient
        self._latest: dict[tuple[str, str], anyio.Event] = {}
        """By service and task, what the next notification waits for: a commit must not end as pending."""
        self._problems: dict[str, str] = {}
        """By service, what was last logged."""

    async def serve(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Send until `close`, even if cancelled: the end of a run that a shutdown ends is told as well.

        Raises `ConfigError`.
        """
        if not announcements.wanted(self._config):
            task_status.started()
            return
        self._http = _client()
        with anyio.CancelScope(shield=True) as scope:
            async with self._http, anyio.create_task_group() as self._group:
                task_status.started()
                await self._closing.wait()
                scope.deadline = anyio.current_time() + DRAIN_SECONDS
        if scope.cancelled_caught:
            log.warning("the daemon ends before all notifications were sent")

    def close(self) -> None:
        """No more will come."""
        self._closing.set()

    def changed(self, task: Task) -> None:
        """Tell whoever wants to know of the task's new state."""
        if self._group is None or self._closing.is_set():
            return
        for announcement in announcements.of(task, self._config):
            key = (announcement.service, task.id)
            before, sent = self._latest.pop(key, None), anyio.Event()
            if not task.finished:
                self._latest[key] = sent
            self._group.start_soon(self._deliver, announcement, before, sent)

    async def _deliver(self, announcement: Announcement, before: anyio.Event | None, sent: anyio.Event) -> None:
        try:
            if before is not None:
                await before.wait()
            self._note(announcement, announcement.problem or await self._post(announcement))
        finally:
            sent.set()

    async def _post(self, announcement: Announcement) -> str:
        """Returns what went wrong; empty when nothing did."""
        try:
            with anyio.fail_after(TIMEOUT_SECONDS):
                return await self._status(announcement)
        except TimeoutError:
            return f"no answer within {TIMEOUT_SECONDS:g} seconds"
        except Exception as error:  # the text of some holds the address or the token
            return f"the request failed ({type(error).__name__})"

    async def _status(self, announcement: Announcement) -> str:
        request = self._http.stream(
            "POST", announcement.url, content=announcement.body, headers=announcement.headers, follow_redirects=False
        )
        async with request as response:  # its body, of any length, is of no interest
            return "" if response.is_success else f"the answer was {response.status_code}"

    def _note(self, announcement: Announcement, problem: str) -> None:
        """Log what is wrong once, not again with every run."""
        service = announcement.service
        if problem and problem != self._problems.get(service):
            log.warning("%s is not told of run %s: %s (%s)", service, announcement.run, problem, announcement.setting)
        elif not problem and service in self._problems:
            log.info("%s is told of runs again", service)
        if problem:
            self._problems[service] = problem
        else:
            self._problems.pop(service, None)


def _client() -> httpx.AsyncClient:
    import httpx  # few daemons need it, and it takes a while

    try:
        return httpx.AsyncClient(timeout=None)
    except (OSError, ValueError) as error:
        problem = f"SSL_CERT_FILE, SSL_CERT_DIR or a proxy of the environment cannot be used ({type(error).__name__})"
        raise ConfigError(f"notifications cannot be sent: {problem}") from error
