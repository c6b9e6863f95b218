"""What Slack and GitHub are told of a run, as requests to be sent (client-daemon §5.9)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from pydantic import ValidationError

from testground.api.task import Outcome, RunResult, State, Task, TaskType
from testground.config import DaemonConfig

_REPOSITORY = re.compile(r"(?!\.+/)[\w.-]+/(?!\.+$)[\w.-]+", re.ASCII)
_COMMIT = re.compile(r"[0-9a-fA-F]{4,64}")
_ACCESS_TOKEN = re.compile(r"gh[a-z]_|github_pat_")
_LONGEST_DESCRIPTION = 140
_LONGEST_REASON = 500


@dataclass(frozen=True, slots=True)
class Announcement:
    """A request to a service about a run; or, with a `problem`, why there can be none."""

    service: str
    run: str
    setting: str
    """The key of the configuration that asks for it."""
    url: str = field(default="", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    body: bytes = b""
    problem: str = ""


def wanted(config: DaemonConfig) -> bool:
    return bool(config.slack_webhook_url or config.github_repo_status_token)


def of(task: Task, config: DaemonConfig) -> Iterator[Announcement]:
    """What is to be told now that the task has changed its state. Builds, and what was never begun, are not news."""
    if task.type is not TaskType.RUN or all(entry.state is not State.PROCESSING for entry in task.states):
        return
    if config.slack_webhook_url and task.finished:
        yield _slack(task, config)
    by = task.created_by
    if config.github_repo_status_token and by.repo and by.branch and by.commit:
        yield _github(task, config)


def _slack(task: Task, config: DaemonConfig) -> Announcement:
    headers = {"Content-Type": "application/json; charset=UTF-8"}
    body = _json({"text": slack_text(task, config.root_url)})
    return Announcement("Slack", task.id, "daemon.slack_webhook_url", config.slack_webhook_url, headers, body)


def slack_text(task: Task, root_url: str) -> str:
    """One line; what users have written cannot mention anybody or forge a link."""
    link = f"<{_target(task, root_url)}|{task.id}>" if root_url else task.id
    name = f"{link} *{_escaped(f'{task.plan}:{task.case}')}*"
    result, took = _escaped(str(_result(task) or task.outcome)), _took(task)
    reason = "".join(f" ; {_escaped(text)}" for text in (_reason(task),) if text)
    match task.outcome:
        case Outcome.SUCCESS:
            return f"✅ {name} run succeeded ({result}) {took}"
        case Outcome.CANCELED:
            return f"⚪ {name} run canceled {took}{reason}"
        case Outcome.FAILURE:
            return f"❌ {name} run failed ({result}) {took}{reason}"
    return f"{name} run completed"


def _github(task: Task, config: DaemonConfig) -> Announcement:
    service, setting = "GitHub", "daemon.github_repo_status_token"
    repo, commit = task.created_by.repo, task.created_by.commit
    if not _REPOSITORY.fullmatch(repo):
        return Announcement(service, task.id, setting, problem=f"its repository {repo!a} is not OWNER/NAME")
    if not _COMMIT.fullmatch(commit):
        return Announcement(service, task.id, setting, problem=f"its commit {commit!a} is not a hash")
    token = config.github_repo_status_token.strip()
    scheme = "Bearer" if _ACCESS_TOKEN.match(token) else "Basic"
    headers = {
        "Authorization": f"{scheme} {token}",
        "Accept": "application/vnd.github.v3+json",
        "Content-Type": "application/json",
        "User-Agent": "testground",
    }
    url = f"{config.github_api_url.rstrip('/')}/repos/{repo}/statuses/{commit}"
    return Announcement(service, task.id, setting, url, headers, _json(_status(task, config.root_url)))


def _status(task: Task, root_url: str) -> dict[str, str]:
    states = {Outcome.UNKNOWN: "failure" if task.finished else "pending", Outcome.SUCCESS: "success"}
    words = {Outcome.UNKNOWN: "run completed" if task.finished else "run started", Outcome.SUCCESS: "run succeeded"}
    words |= {Outcome.FAILURE: "run failed", Outcome.CANCELED: "run canceled"}
    more = "".join(f": {text}" for text in (_reason(task),) if text)
    status = {
        "state": states.get(task.outcome, "failure"),
        "description": f"{words[task.outcome]}{more}"[:_LONGEST_DESCRIPTION],
        "context": f"taas/{task.plan}/{task.case}",
    }
    return {**status, "target_url": _target(task, root_url)} if root_url else status


def _target(task: Task, root_url: str) -> str:
    """A page that says more."""
    return f"{root_url.rstrip('/')}/logs?task_id={task.id}"


def _result(task: Task) -> RunResult | None:
    try:
        return RunResult.model_validate(task.result)
    except ValidationError:
        return None


def _reason(task: Task) -> str:
    """Why it is no success, in one line: the task's error, else its first failure."""
    result = _result(task)
    first = [f"{failure.instance} {failure.reason}" for failure in (result.failures if result else [])[:1]]
    return " ".join("".join(task.error.splitlines()[:1] or first).split())[:_LONGEST_REASON]


def _took(task: Task) -> str:
    """`1h2m3s`, as Go writes it."""
    seconds = int((task.updated - task.created) / timedelta(seconds=1))
    hours, minutes = seconds // 3600, seconds // 60
    return f"{hours}h" * bool(hours) + f"{minutes % 60}m" * bool(minutes) + f"{seconds % 60}s"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _json(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode()
