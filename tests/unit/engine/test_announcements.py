"""What Slack and GitHub are told (client-daemon §5.9)."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from testground.api.task import CreatedBy, DatedState, State, Task, TaskType
from testground.config import DaemonConfig
from testground.engine import announcements

START = datetime(2026, 11, 23, 12, tzinfo=UTC)
ID = "c0ffee0000000000000g"
ROOT = "https://tg.example/"
SLACK = DaemonConfig(slack_webhook_url="https://slack.example/T/B/x", root_url=ROOT)
GITHUB = DaemonConfig(github_repo_status_token="dXNlcjpwYXNz", root_url=ROOT)
COMMIT = "0123456789abcdef0123456789abcdef01234567"
BY = CreatedBy(user="me", repo="owner/name", branch="main", commit=COMMIT)


def _result(outcome="success", ok=2, failures=()):
    return {"outcome": outcome, "outcomes": {"g": {"ok": ok, "total": 2}}, "failures": list(failures)}


def _run(*states, took=3.9, result=None, error="", by=BY, plan="plan", case="case"):
    moments = [START + timedelta(seconds=took) * index / max(len(states) - 1, 1) for index in range(len(states))]
    dated = [DatedState(created=moment, state=state) for moment, state in zip(moments, states, strict=True)]
    fields = {"id": ID, "type": TaskType.RUN, "plan": plan, "case": case, "states": dated, "created_by": by}
    return Task(**fields, result=result, error=error)


def _ended(state=State.COMPLETE, **how):
    return _run(State.SCHEDULED, State.PROCESSING, state, **how)


def _text(task, root=ROOT):
    [told] = announcements.of(task, SLACK.model_copy(update={"root_url": root}))
    return json.loads(told.body)["text"]


def _status(task, config=GITHUB):
    [told] = announcements.of(task, config)
    return json.loads(told.body)


LINK = f"<https://tg.example/logs?task_id={ID}|{ID}> *plan:case*"


@pytest.mark.parametrize(
    ("task", "text"),
    [
        (_ended(result=_result()), f"✅ {LINK} run succeeded (outcome = success (g:2/2)) 3s"),
        (_ended(result=_result("failure", 1)), f"❌ {LINK} run failed (outcome = failure (g:1/2)) 3s"),
        (
            _ended(result=_result("failure", 1, [{"instance": "g[001]", "reason": "exited with code 7"}]), took=3725),
            f"❌ {LINK} run failed (outcome = failure (g:1/2)) 1h2m5s ; g[001] exited with code 7",
        ),
        (_ended(State.CANCELED, error="it broke\noutput", took=60), f"⚪ {LINK} run canceled 1m0s ; it broke"),
        (_ended(result=_result("canceled"), took=0), f"⚪ {LINK} run canceled 0s"),
        (_ended(result=_result("unknown")), f"{LINK} run completed"),
        (_ended(result=["odd"]), f"{LINK} run completed"),
    ],
)
def test_slack_text(task, text):
    assert _text(task) == text


def test_slack_text_without_an_address_of_our_own_has_no_link():
    assert _text(_ended(result=_result()), "").startswith(f"✅ {ID} *plan:case* run succeeded")


def test_what_users_write_mentions_nobody():
    text = _text(_ended(State.CANCELED, plan="<!channel>", case="a&b", error="<https://evil.example|click>"))
    assert "*&lt;!channel&gt;:a&amp;b*" in text
    assert text.endswith(" ; &lt;https://evil.example|click&gt;")
    assert text.count("<") == 1


def test_slack_request():
    [told] = announcements.of(_ended(result=_result()), SLACK)
    assert (told.service, told.url) == ("Slack", "https://slack.example/T/B/x")
    assert told.headers["Content-Type"] == "application/json; charset=UTF-8"


@pytest.mark.parametrize(
    ("task", "state", "description"),
    [
        (_run(State.SCHEDULED, State.PROCESSING), "pending", "run started"),
        (_ended(result=_result()), "success", "run succeeded"),
        (_ended(result=_result("failure")), "failure", "run failed"),
        (_ended(result=_result("canceled")), "failure", "run canceled"),
        (_ended(State.CANCELED, error="x" * 1000), "failure", "run canceled: " + "x" * 126),
        (_ended(result=_result("unknown")), "failure", "run completed"),
    ],
)
def test_github_status(task, state, description):
    assert _status(task) == {
        "state": state,
        "target_url": f"https://tg.example/logs?task_id={ID}",
        "description": description,
        "context": "taas/plan/case",
    }


def test_github_status_without_an_address_of_our_own_has_no_target():
    assert "target_url" not in _status(_ended(result=_result()), GITHUB.model_copy(update={"root_url": ""}))


@pytest.mark.parametrize(
    ("token", "authorization"),
    [
        ("dXNlcjpwYXNz", "Basic dXNlcjpwYXNz"),
        (" dXNlcjpwYXNz\n", "Basic dXNlcjpwYXNz"),
        ("ghp_secret", "Bearer ghp_secret"),
        ("github_pat_secret", "Bearer github_pat_secret"),
    ],
)
def test_github_request(token, authorization):
    config = GITHUB.model_copy(update={"github_repo_status_token": token, "github_api_url": "https://ghe.example/api/"})
    [told] = announcements.of(_ended(result=_result()), config)
    assert told.url == f"https://ghe.example/api/repos/owner/name/statuses/{COMMIT}"
    assert told.headers["Authorization"] == authorization
    assert told.headers["Accept"] == "application/vnd.github.v3+json"
    assert token.strip() not in repr(told)


@pytest.mark.parametrize(
    "repo", ["name", "/", "a/", "/b", "a/b/c", "a/..", "../b", "a/b?x", "a b/c", "a/b\n", "ü/b", "a\\/b"]
)
def test_a_repository_of_another_form_is_a_problem_not_a_request(repo):
    [told] = announcements.of(_ended(by=BY.model_copy(update={"repo": repo})), GITHUB)
    assert "is not OWNER/NAME" in told.problem
    assert told.url == ""


@pytest.mark.parametrize("commit", ["main", "..", "0123/..", "abc", "0123456\n", "0123?x"])
def test_a_commit_that_is_no_hash_is_a_problem_not_a_request(commit):
    [told] = announcements.of(_ended(by=BY.model_copy(update={"commit": commit})), GITHUB)
    assert "is not a hash" in told.problem


@pytest.mark.parametrize("missing", ["repo", "branch", "commit"])
def test_github_needs_repository_branch_and_commit(missing):
    assert not list(announcements.of(_ended(by=BY.model_copy(update={missing: ""})), GITHUB))


@pytest.mark.parametrize(
    "task",
    [
        _run(State.SCHEDULED),
        _run(State.SCHEDULED, State.CANCELED),
        _ended().model_copy(update={"type": TaskType.BUILD}),
    ],
)
def test_builds_and_what_was_never_begun_are_not_news(task):
    config = SLACK.model_copy(update={"github_repo_status_token": "t"})
    assert not list(announcements.of(task, config))


def test_slack_is_not_told_of_the_begin():
    assert not list(announcements.of(_run(State.SCHEDULED, State.PROCESSING), SLACK))
