"""Runs and builds against a daemon that says what a daemon would say (client-daemon §8.4, §8.5, §8.8 L1–L7)."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest

from testground.api import rpc

ID = "dc28b05qmd2op8cgmlh0"
OTHER = "dc28b05qmd2op8cgmlhg"
STAMP = "2026-11-23T18:26:17.516257977Z"

TWO_RUNS = """
# kept
[global]
plan = "suite/demo"
case = "ok"
builder = "exec:go"
runner = "local:exec"

[[groups]]
id = "a"
instances = { count = 1 }

[[groups]]
id = "b"
instances = { count = 1 }

[[runs]]
id = "zrun"
[[runs.groups]]
id = "a"

[[runs]]
id = "arun"
[[runs.groups]]
id = "a"
[[runs.groups]]
id = "b"
"""

SINGLE = ("run", "single", "-p", "suite/demo", "-t", "ok", "-b", "exec:go", "-r", "local:exec", "-i", "2")


def task(task_id: str = ID, **changes: Any) -> dict[str, Any]:
    state = changes.pop("state", "complete")
    return {
        "priority": 1,
        "id": task_id,
        "plan": "demo",
        "case": "ok",
        "states": [{"created": STAMP, "state": "scheduled"}, {"created": STAMP, "state": state}],
        "type": "run",
        "result": {"outcome": "success", "outcomes": {"single": {"ok": 2, "total": 2}}},
        "error": "",
        **changes,
    }


def plain(text: str) -> list[str]:
    """Log lines as scripts see them: without stamp and colour."""
    return [line.split("\t", 2)[2] for line in text.splitlines() if "\t\x1b[" in line]


def test_a_run_is_queued_and_left_alone(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/run", ID)
    result = cli(*SINGLE, "--test-param", "a=1", "--run-cfg", "log_level=debug", "-build-cfg=enabled=true")
    assert result.status == 0
    [line] = [line for line in result.lines if "queued" in line]
    assert re.fullmatch(
        r"\w{3} [ \d]\d \d\d:\d\d:\d\d\.\d{6}\t\x1b\[34mINFO\x1b\[0m\trun is queued with ID: \w{20}", line
    )
    assert line.split()[9] == ID
    [request] = fake_daemon.sent("/run")
    manifest = request.pop("manifest")
    assert (manifest["Name"], list(manifest["Builders"])) == ("demo", ["exec:go"])
    resources = {"memory": "", "cpu": ""}
    instances = {"count": 2, "percentage": 0.0}
    assert request == {
        "priority": 0,
        "build_groups": [0],
        "run_ids": ["default"],
        "composition": {
            "metadata": {"name": "", "author": ""},
            "global": {
                "plan": "suite/demo",
                "case": "ok",
                "total_instances": 2,
                "concurrent_builds": 0,
                "builder": "exec:go",
                "build_config": {"enabled": True},
                "build": None,
                "runner": "local:exec",
                "run_config": {"log_level": "debug"},
                "run": None,
                "disable_metrics": False,
            },
            "groups": [
                {
                    "id": "single",
                    "builder": "",
                    "build_config": None,
                    "build": {"selectors": None, "dependencies": []},
                    "resources": resources,
                    "instances": instances,
                    "run": {"artifact": "", "test_params": {"a": "1"}, "profiles": None},
                }
            ],
            "runs": [
                {
                    "id": "default",
                    "test_params": None,
                    "total_instances": 2,
                    "groups": [
                        {
                            "id": "single",
                            "group_id": "single",
                            "resources": resources,
                            "instances": instances,
                            "test_params": {"a": "1"},
                            "profiles": None,
                        }
                    ],
                }
            ],
        },
        "created_by": {"user": "me"},
    }
    assert fake_daemon.requests[0].parts == ["composition.json", "plan.zip"]


def test_a_followed_run(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.answer("/logs", rpc.progress(b"half "), rpc.progress(b"line\n"), rpc.result(task()))
    result = cli(*SINGLE, "--wait", "--metadata-repo=o/n", "--metadata-branch", "main")
    assert (result.status, result.err) == (0, "")
    assert plain(result.out) == [
        'created a synthetic composition file for this job; all instances will run under singleton group "single"',
        f"run is queued with ID: {ID}",
        f"finished run with ID: {ID}",
        f"result default[{ID}]: success",
    ]
    assert "\n\x1b[1;36m>>> Server output:\x1b[0m\nhalf line\n\n\x1b[1;92m>>> Result:\x1b[0m\n" in result.out
    assert fake_daemon.sent("/logs") == [{"task_id": ID, "follow": True, "cancel_with_context": True}]
    [request] = fake_daemon.sent("/run")
    assert (request["priority"], request["created_by"]) == (1, {"user": "me", "repo": "o/n", "branch": "main"})


@pytest.mark.parametrize(
    ("changes", "outcome"),
    [
        ({"result": {"outcome": "failure"}}, "failure"),
        ({"result": {"outcome": "canceled"}}, "canceled"),
        ({"result": {"outcome": "splendid"}}, "unknown"),
        ({"result": "nonsense"}, "unknown"),
    ],
)
def test_only_a_success_is_a_success(cli: Any, fake_daemon: Any, changes: dict[str, Any], outcome: str) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task(**changes))
    result = cli(*SINGLE, "--wait")
    assert result.status == 1
    assert f"result default[{ID}]: {outcome}" in plain(result.out)
    assert result.err == 'run "default" failed\n'


@pytest.mark.parametrize("state", ["canceled", "processing"])
def test_a_run_that_did_not_come_to_its_end(cli: Any, fake_daemon: Any, state: str) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task(state=state, result=None, error="task of type run cancelled: it rained"))
    result = cli(*SINGLE, "--wait")
    assert (result.status, result.lines[-1]) == (1, "task of type run cancelled: it rained")


def test_what_the_go_daemon_means_by_a_float(cli: Any, fake_daemon: Any) -> None:
    error = "task of type run cancelled: … toml: cannot load TOML value of type float64 into a Go integer"
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task(state="canceled", result=None, error=error))
    result = cli(*SINGLE, "--run-cfg", "limit=5", "--wait")
    assert (result.status, result.lines[-1]) == (1, error)
    assert "whole numbers" in result.err


def test_an_artifact_needs_no_sources(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/run", ID)
    assert cli(*SINGLE, "-ub", "/bin/true", "--disable-metrics").status == 0
    [request] = fake_daemon.sent("/run")
    assert (request["build_groups"], fake_daemon.requests[0].parts) == ([], ["composition.json"])
    assert request["composition"]["groups"][0]["run"]["artifact"] == "/bin/true"
    assert request["composition"]["global"]["disable_metrics"] is True


def test_collected_outputs(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task())
    fake_daemon.answer("/outputs", rpc.binary(b"\x1f\x8b"), rpc.binary(b"more"), rpc.result(True))
    result = cli(*SINGLE, "--collect")
    assert f"created file: {ID}.tgz" in plain(result.out)
    assert Path(f"{ID}.tgz").read_bytes() == b"\x1f\x8bmore"
    assert cli(*SINGLE, "--collect", "-o", "mine").status == 0
    assert sorted(path.name for path in Path.cwd().iterdir()) == [f"{ID}.tgz", "mine.tgz"]


@pytest.mark.parametrize(
    "answer",
    [
        rpc.binary(b"part") + rpc.result(False),
        rpc.binary(b"part") + rpc.error("no", "unknown"),
        rpc.binary(b"part"),
        rpc.binary(b"part") + rpc.error("disk on fire"),
    ],
)
def test_outputs_that_do_not_come_are_exit_status_3(cli: Any, fake_daemon: Any, answer: bytes) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task())
    fake_daemon.answer("/outputs", answer)
    result = cli(*SINGLE, "--collect")
    assert result.status == 3
    assert list(Path.cwd().iterdir()) == []
    assert f"result default[{ID}]: success" in plain(result.out)


# -- L1: two runs -----------------------------------------------------------------------------------------------


def answer_two_runs(fake_daemon: Any) -> None:
    fake_daemon.result("/run", ID)
    fake_daemon.result("/run", OTHER)
    built = {"global": {"plan": "demo"}, "groups": [{"id": n, "run": {"artifact": f"/art-{n}"}} for n in ("b", "a")]}
    fake_daemon.result("/logs", task(ID, composition=built, result={"outcome": "failure"}))
    fake_daemon.result("/logs", task(OTHER))


def test_l1_two_runs_in_sequence(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    answer_two_runs(fake_daemon)
    fake_daemon.answer("/outputs", rpc.binary(b"x"), rpc.result(True))
    result = cli("run", "composition", "-f", "c.toml", "--collect", "--result-file", "r.csv", "-w")
    assert (result.status, result.err) == (1, 'run "arun" failed\n')
    assert sorted(path.name for path in Path.cwd().iterdir()) == [
        "c.toml",
        f"multiple-arun-{ID}.tgz",
        f"multiple-zrun-{OTHER}.tgz",
        "r.csv",
    ]
    assert Path("r.csv").read_text() == f"run_id,task_id,outcome,error\narun,{ID},failure,\nzrun,{OTHER},success,\n"
    first, second = fake_daemon.sent("/run")
    assert (first["build_groups"], first["run_ids"]) == ([0, 1], ["arun"])
    assert (second["build_groups"], second["run_ids"]) == ([], ["zrun"])
    assert [group["run"]["artifact"] for group in second["composition"]["groups"]] == ["/art-a", "/art-b"]
    assert second["composition"]["global"]["plan"] == "suite/demo"
    written = Path("c.toml").read_text()
    assert "# kept" in written
    assert written.index("/art-a") < written.index("/art-b")


def test_chosen_runs_in_the_given_order(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    answer_two_runs(fake_daemon)
    assert cli("run", "c", "-f", "c.toml", "--run-ids", "zrun, arun", "-o", "mine").status == 1
    assert [request["run_ids"] for request in fake_daemon.sent("/run")] == [["zrun"], ["arun"]]


def test_a_daemon_that_returns_no_artifacts_gets_the_sources_again(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task(ID, composition=None))
    assert cli("run", "c", "-f", "c.toml").status == 0
    assert [request["build_groups"] for request in fake_daemon.sent("/run")] == [[0, 1], [0, 1]]


def test_artifacts_of_the_file_are_used_unless_ignored(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS.replace('id = "b"\n', 'id = "b"\nrun = { artifact = "/b" }\n', 1))
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task())
    cli("run", "c", "-f", "c.toml", "--run-ids", "zrun", "--wait")
    cli("run", "c", "-f", "c.toml", "--run-ids", "zrun", "--wait", "-i")
    assert [request["build_groups"] for request in fake_daemon.sent("/run")] == [[0], [0, 1]]


def test_an_unknown_run_id_is_not_submitted(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    result = cli("run", "c", "-f", "c.toml", "--run-ids", "arum")
    assert (result.status, result.lines[-1]) == (1, "unknown run id arum; did you mean 'arun'?")
    assert fake_daemon.requests == []


def test_l2_a_broken_build_ends_all_runs(cli: Any, fake_daemon: Any) -> None:
    """L2."""
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task(state="canceled", result=None, error="task of type run cancelled: broken"))
    result = cli("run", "c", "-f", "c.toml", "--wait", "--collect", "--result-file=r.csv")
    assert (result.status, result.lines[-1]) == (1, "task of type run cancelled: broken")
    assert f"if any started: testground collect {ID} --runner local:exec\n" in result.err
    assert len(fake_daemon.sent("/run")) == 1
    with Path("r.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[1:] == [["arun", "N/A", "canceled", "canceled"], ["zrun", "N/A", "canceled", "canceled"]]


def test_a_daemon_that_dies_between_the_runs(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/run", ID)
    fake_daemon.result("/logs", task())
    fake_daemon.answer("/logs", rpc.progress(b"x"), broken=True)
    result = cli("run", "c", "-f", "c.toml", "-O", "r.csv")
    assert result.status == 1
    assert "went away in the middle of its answer" in result.lines[-1]
    assert f"result arun[{ID}]: success" in plain(result.out)
    assert Path("r.csv").read_text().splitlines()[1:] == [f"arun,{ID},success,", "zrun,N/A,canceled,canceled"]


def test_l3_a_result_file_without_waiting_has_no_rows(cli: Any, fake_daemon: Any) -> None:
    """L3."""
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/run", ID)
    result = cli("run", "c", "-f", "c.toml", "--run-ids=arun", "--result-file=r.csv", "-w")
    assert (result.status, Path("r.csv").read_text()) == (0, "run_id,task_id,outcome,error\n")
    assert "artifacts are not written to c.toml: that needs --wait" in plain(result.out)


def test_what_would_not_be_written_is_in_nobodys_way(cli: Any, fake_daemon: Any) -> None:
    template = "{{ range split `a,b` }}\n[[groups]]\nid = '{{ . }}'\n{{ end }}"
    Path("c.toml").write_text(f"{TWO_RUNS.partition('[[groups]]')[0]}{template}")
    Path("c.toml.template").write_text("mine")
    fake_daemon.result("/run", ID)
    arguments = ("run", "composition", "-f", "c.toml", "-w")
    assert cli(*arguments).status == 0
    waiting = cli(*arguments, "--wait")
    assert waiting.status == 1 and "c.toml.template, but that is another file already" in waiting.lines[-1]
    assert len(fake_daemon.sent("/run")) == 1


# -- build ------------------------------------------------------------------------------------------------------


def test_build_single(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/build", ID)
    fake_daemon.result("/logs", task(type="build", plan="", case="", result=["/art-1"]))
    result = cli("build", "single", "--plan", "suite/demo", "--builder", "exec:go", "--wait")
    assert result.status == 0
    assert f"build queued with ID: {ID}" in plain(result.out)
    [line] = [line for line in result.lines if "generated build artifact" in line]
    assert line.split('"')[7] == "/art-1"
    [request] = fake_daemon.sent("/build")
    composition = request["composition"]
    assert composition["global"] | {"plan": "demo", "build_config": {}, "run_config": {}} == composition["global"]
    assert composition["groups"][0]["builder"] == "exec:go"
    assert composition["groups"][0]["build_config"] == {"enabled": True}
    assert (request["priority"], composition["runs"][0]["id"]) == (1, "default")


def test_build_composition_writes_its_artifacts(cli: Any, fake_daemon: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/build", ID)
    fake_daemon.result("/logs", task(type="build", result=["/art-1", "/art-2"]))
    assert cli("build", "composition", "-f", "c.toml", "--wait", "-w").status == 0
    assert 'artifact = "/art-2"' in Path("c.toml").read_text()
    assert "suite/demo" in Path("c.toml").read_text()


@pytest.mark.parametrize("value", [None, ["/one"], [1, 2], "x"])
def test_a_build_without_its_artifacts_is_no_success(cli: Any, fake_daemon: Any, value: Any) -> None:
    Path("c.toml").write_text(TWO_RUNS)
    fake_daemon.result("/build", ID)
    fake_daemon.result("/logs", task(type="build", result=value))
    result = cli("build", "c", "-f", "c.toml", "--wait")
    assert result.status == 1
    assert "artifacts" in result.lines[-1]


def test_purge(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.result("/build/purge", "build purge succeeded")
    result = cli("build", "p", "-b", "exec:go", "-p", "suite/demo")
    assert (result.status, result.lines[-1]) == (0, "finished purging testplan suite/demo for builder exec:go")


# -- L7: errors before the daemon is bothered --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("run", "c", "-f", "nocase.toml"), "invalid composition file: Key: 'Composition.Global.Case' Error:"),
        (("run", "c", "-f", "nobuilder.toml"), "invalid composition file: group a is missing a builder"),
        (("build", "c", "-f", "nobuilder.toml"), "invalid composition file: group a is missing a builder"),
        (("run", "c", "-f", "absent.toml"), "failed to load composition file: absent.toml: "),
        ((*SINGLE, "-tp", "noeq"), "failed while parsing test paremters: invalid key-value: noeq"),
        ((*SINGLE, "-d", "a=b"), "invalid target-version: b"),
        ((*SINGLE, "--link-sdk", "nosuch"), "failed to resolve linked SDK directory: no matching paths; tried: ["),
        ((*SINGLE, "-p", "suite/demp"), "failed to resolve test plan: failed to locate plan in directory: "),
        ((*SINGLE, "-p", "../demo"), "failed to resolve test plan: '../demo' is not a path below "),
        ((*SINGLE, "-i", "many"), "Invalid value for '--instances'"),
        ((*SINGLE, "--instences", "5"), "No such option: --instences"),
        ((*SINGLE, "-tp"), "requires an argument"),
        ((*SINGLE, "--wait=perhaps"), 'invalid boolean value "perhaps" for flag --wait'),
        ((*SINGLE, "surplus"), "surplus"),
    ],
)
def test_l7_errors_before_contact(cli: Any, fake_daemon: Any, argv: tuple[str, ...], message: str) -> None:
    Path("nocase.toml").write_text(TWO_RUNS.replace('case = "ok"', ""))
    Path("nobuilder.toml").write_text(TWO_RUNS.replace('builder = "exec:go"', ""))
    result = cli(*argv)
    assert result.status == 1
    assert message in result.out
    assert "Traceback" not in result.out + result.err
    assert fake_daemon.requests == []


def test_l7_a_wrong_token(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.answer("/run", status=403)
    result = cli(*SINGLE)
    assert (result.status, result.lines[-1]) == (1, "unexpected status code received: 403 Forbidden")
    assert "client.token" in result.err


def test_what_the_daemon_refuses(cli: Any, fake_daemon: Any) -> None:
    fake_daemon.answer("/run", rpc.error("engine run error: queue full", "queue-full"))
    result = cli(*SINGLE)
    assert (result.status, result.lines[-1]) == (1, "engine run error: queue full")
    assert "\n\x1b[1;91m>>> Error:\x1b[0m\n" in result.out
