"""Upstream's published client runs compositions on our daemon (client-daemon §3.8–§3.11, §6.3, §8.8)."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]

GLOBAL = '[global]\nplan = "shell"\ncase = "{case}"\nbuilder = "exec:generic"\nrunner = "local:exec"\n'
GROUPS = '[[groups]]\nid = "a"\ninstances = { count = 1 }\n[[groups]]\nid = "b"\ninstances = { count = 1 }\n'


def runs(**groups: str) -> str:
    """A `[[runs]]` table each: its name and the word that its one group gets."""
    group = '[[runs.groups]]\nid = "a"\ninstances = { count = 1 }\n'
    return "".join(
        f'[[runs]]\nid = "{name}"\n{group}test_params = {{ word = "{word}" }}\n' for name, word in groups.items()
    )


def test_all_runs_go_on_after_a_failed_one(go: GoClient) -> None:
    """L1: sorted order, an archive and a row for each, groups built once."""
    text = GLOBAL.format(case="optional") + GROUPS + runs(zrun="fine", arun="fail", mrun="fine")
    go.write("c.toml", text)
    done = go("run", "composition", "-f", "c.toml", "--collect", "--result-file", "r.csv")
    first, second, third = done.run_ids
    assert (done.exit_code, done.stderr) == (1, 'run "arun" failed\n')
    assert go.read("r.csv") == (
        f"run_id,task_id,outcome,error\narun,{first},failure,\nmrun,{second},success,\nzrun,{third},success,\n"
    )
    names = [f"multiple-arun-{first}.tgz", f"multiple-mrun-{second}.tgz", f"multiple-zrun-{third}.tgz"]
    assert sorted(path.name for path in go.directory.glob("*.tgz")) == names
    assert len(done.log("performing build for groups")) == 1
    asked = [go.status(task_id)["Input"] for task_id in (first, second)]
    assert [document["build_groups"] for document in asked] == [[0, 1], []]
    assert [document["run_ids"] for document in asked] == [["arun"], ["mrun"]]
    assert asked[1]["composition"]["groups"][0]["run"]["artifact"]
    assert go.read("c.toml") == text


def test_later_runs_keep_their_parameters(go: GoClient) -> None:
    """The client sends them with the composition of the first run's task. It reads that without some of its keys
    (§7.1 no. 4): parameters survive because the daemon has moved them to the runs, `disable_metrics` does not."""
    shared = 'disable_metrics = true\n[global.run.test_params]\nword = "shared"\n'
    own = '[[groups]]\nid = "a"\ninstances = { count = 1 }\nrun = { test_params = { times = "9" } }\n'
    second = '[[runs]]\nid = "two"\n[[runs.groups]]\nid = "renamed"\ngroup_id = "a"\ninstances = { count = 1 }\n'
    go.write("c.toml", GLOBAL.format(case="ok") + shared + own + runs(one="1") + second)
    done = go("run", "composition", "-f", "c.toml")
    assert done.exit_code == 0
    assert [line.rpartition(" << ")[2] for line in done.log("times=")] == [
        "a[000] >> times=9|word=1 metrics disabled: true",
        "renamed[000] >> times=9|word=shared metrics disabled: false",
    ]


def test_chosen_runs_go_in_the_order_given(go: GoClient) -> None:
    go.write("c.toml", GLOBAL.format(case="ok") + GROUPS + runs(one="1", two="2", three="3"))
    done = go("run", "composition", "-f", "c.toml", "--run-ids", "two,one", "--collect", "--collect-file", "some")
    first, second = done.run_ids
    assert done.exit_code == 0
    assert sorted(path.name for path in go.directory.glob("*.tgz")) == [
        f"some-one-{second}.tgz",
        f"some-two-{first}.tgz",
    ]
    assert [line.rpartition(">> ")[2] for line in done.log("word=")] == [
        f"times=3|word={word} metrics disabled: false" for word in (2, 1)
    ]
    done = go("run", "composition", "-f", "c.toml", "--run-ids", "four", "--wait", "--result-file", "r.csv")
    assert done.exit_code == 1
    assert "invalid run id four: unknown run id four" in done.stdout.splitlines()[-1]
    assert not done.log("performing build")  # upstream's daemon builds first, §7.1 no. 32
    assert go.read("r.csv") == "run_id,task_id,outcome,error\nfour,N/A,canceled,canceled\n"


def test_one_run_of_a_composition_need_not_be_waited_for(go: GoClient) -> None:
    """L3"""
    go.write("c.toml", GLOBAL.format(case="ok") + GROUPS)
    done = go("run", "composition", "-f", "c.toml", "--result-file", "r.csv")
    assert (done.exit_code, len(done.run_ids)) == (0, 1)
    assert go.read("r.csv") == "run_id,task_id,outcome,error\n"


def test_artifacts_are_written_back_and_used(go: GoClient) -> None:
    go.write("c.toml", GLOBAL.format(case="ok") + GROUPS + runs(one="1"))
    assert go("run", "composition", "-f", "c.toml", "--wait", "--write-artifacts").exit_code == 0
    written = tomllib.loads(go.read("c.toml"))
    artifacts = [group["run"]["artifact"] for group in written["groups"]]
    assert len(set(artifacts)) == 1 and Path(artifacts[0]).is_file()
    assert (written["global"]["plan"], written["global"]["case"]) == ("shell", "ok")
    assert written["runs"][0]["groups"][0]["test_params"] == {"word": "1", "times": "3"}
    again = go("run", "composition", "-f", "c.toml", "--wait")
    assert again.exit_code == 0
    assert not again.log("performing build")
    assert go("run", "composition", "-f", "c.toml", "--wait", "--ignore-artifacts").log("performing build")


def test_a_composition_is_built_for_each_group(go: GoClient) -> None:
    go.write("c.toml", GLOBAL.format(case="ok") + GROUPS)
    done = go("build", "composition", "-f", "c.toml", "--wait", "--write-artifacts")
    assert done.exit_code == 0
    assert client.awk(done.stdout, "generated build artifact", 4, '"') == ["a", "b"]
    assert len(set(client.awk(done.stdout, "generated build artifact", 8, '"'))) == 1
    assert tomllib.loads(go.read("c.toml"))["groups"][0]["run"]["artifact"] == ""  # upstream's client, §7.1 no. 6
    assert go("build", "composition", "-f", "c.toml").exit_code == 0


def test_builds_of_groups_differ_by_builder_and_by_configuration(go: GoClient) -> None:
    plan = go.home / "plans" / "shell"
    manifest = client.MANIFEST.replace("[runners.", '[builders."exec:python"]\n[runners.')
    (plan / "manifest.toml").write_text(manifest)
    (plan / "other.sh").write_text(client.RUN.replace('"$TEST_INSTANCE_PARAMS metrics', '"other'))
    (plan / "other.sh").chmod(0o755)
    (plan / "main.py").write_text(
        "from testground.sdk import invoke\n\ndef ok(env):\n    env.record_message('python')\n\ninvoke(ok)\n"
    )
    groups = (
        '[[groups]]\nid = "a"\ninstances = { count = 1 }\n'
        '[[groups]]\nid = "b"\ninstances = { count = 1 }\nbuild_config = { artifact = "other.sh" }\n'
        '[[groups]]\nid = "c"\ninstances = { count = 1 }\nbuilder = "exec:python"\n'
    )
    go.write("c.toml", GLOBAL.format(case="ok") + groups)
    done = go("run", "composition", "-f", "c.toml", "--wait")
    assert done.exit_code == 0
    assert done.log("(a:1/1 b:1/1 c:1/1)")
    assert [bool(done.log(text)) for text in ("a[000] >> times=3|", "b[000] >> other", "c[000] >> python")] == [
        True
    ] * 3
