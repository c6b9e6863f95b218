from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from testground.api.composition import Composition
from testground.errors import CompositionError
from testground.plan import composition, writeback

GOOD = """\
# how it is run
[metadata]
name = "demo"   # its name

[global]
plan = "suite/demo"
case = "ok"
builder = "exec:go"
runner = "local:exec"
total_instances = 4

# the servers
[[groups]]
id = "servers"
instances = { percentage = 0.5 }

  [groups.build]
  selectors = ["a"] # tags

  [groups.run]
  test_params = { size = "10" } # small

[[groups]]
id = "clients"
[groups.instances]
count = 2
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "composition.toml"
    file.write_bytes(text.encode())
    return file


def test_a_good_composition(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    read = composition.load(file)
    assert read.global_.plan == "suite/demo"
    assert [group.id for group in read.groups or []] == ["servers", "clients"]
    assert composition.unknown_keys(composition.read(file)) == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[global]\nplan = demo\n", "(at line 2, column 8)"),
        ('# {{ a }}\n[global]\nplan = "{{ .Env.PLAN }}"\n', "not supported; write the value itself (at line 3)"),
        ("[[groups]]\ninstances = { count = 'two' }", "groups[0].instances.count: a whole number is needed"),
        ("[[groups]]\ninstances = { count = -1 }", "groups[0].instances.count: at least 0 is needed"),
        ("[[groups]]\n[groups.Run]\ntest_params = { a = [1] }", "groups[0].Run.test_params.a: a string is needed"),
        ("groups = 1", "groups: a list is needed"),
        ("[global]\nplan = 1", "global.plan: a string is needed"),
        ("[global.run_config]\na = [1, { b = inf }]", "global.run_config.a[1].b: a finite number is needed"),
        ("[[runs]]\nid = 'a'\n[[runs.groups]]\nid = 3", "runs[0].groups[0].id: a string is needed"),
    ],
)
def test_errors_name_the_file_and_the_line_or_key(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(CompositionError) as caught:
        composition.load(file)
    assert str(caught.value).startswith(f"failed to load composition file: {file}: ")
    assert problem in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CompositionError, match=r"failed to load composition file: .*nope\.toml: No such file"):
        composition.load(tmp_path / "nope.toml")
    with pytest.raises(CompositionError, match="Is a directory"):
        composition.load(tmp_path)


@pytest.mark.parametrize(
    ("text", "warnings"),
    [
        ("[[group]]\nid = 'x'", ["unknown key 'group'; did you mean 'groups'?"]),
        ("[Global]\nPlan = 'x'", []),
        (
            "[global]\nbuild_config = { any = 'thing' }\nrunconfig = 1",
            ["unknown key 'global.runconfig'; did you mean 'run_config'?"],
        ),
        (
            "[[groups]]\ninstances = { cuont = 1 }\n[[groups.build.dependencies]]\nmodul = 'x'",
            [
                "unknown key 'groups[0].instances.cuont'; did you mean 'count'?",
                "unknown key 'groups[0].build.dependencies[0].modul'; did you mean 'module'?",
            ],
        ),
        ("[[runs]]\n[[runs.groups]]\nzzz = 1\n", None),
        ("[global.run]\ntest_params = { any = '1' }", []),
    ],
)
def test_unknown_keys_come_with_the_nearest_name(tmp_path: Path, text: str, warnings: list[str] | None) -> None:
    found = composition.unknown_keys(composition.read(write(tmp_path, text)))
    if warnings is None:
        assert found == [
            "unknown key 'runs[0].groups[0].zzz'; there is: group_id, id, instances, profiles, resources, test_params"
        ]
    else:
        assert found == warnings


def with_artifacts(file: Path, **artifacts: str) -> Composition:
    read = composition.load(file)
    groups = [
        group.model_copy(update={"run": group.run.model_copy(update={"artifact": artifacts.get(group.id, "")})})
        for group in read.groups or []
    ]
    settings = read.global_.model_copy(update={"plan": "demo"})  # as the daemon sends it back
    return read.model_copy(update={"groups": groups, "global_": settings})


def test_writing_back_changes_nothing_but_artifacts(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    file.chmod(0o640)
    writeback.write_back(file, with_artifacts(file, servers="art-1", clients="art-2"), plan="suite/demo")
    text = file.read_text()
    assert [line for line in GOOD.splitlines() if line not in text.splitlines()] == []
    assert [line.strip() for line in text.splitlines() if line not in GOOD.splitlines() and line.strip()] == [
        'artifact = "art-1"',
        "[groups.run]",
        'artifact = "art-2"',
    ]
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [file]


LAYOUTS = {
    "inline run": "[[groups]]\nid = 'g'\nrun = { test_params = {a = '1'} } # why\n",
    "inline groups": "groups = [ { id = 'g' }, { id = 'h', run = { artifact = 'old' } } ] # all\n",
    "dotted": "[[groups]]\nid = 'g'\nrun.test_params.a = '1' # why\n",
    "sub-table below": "[[groups]]\nid = 'g'\n[groups.run.test_params]\na = '1' # why\n",
    "old artifact": "[[groups]]\nid = 'g' # why\n[groups.run]\nartifact = 'old'\n",
    "windows": "# c\r\n[[groups]]\r\nid = 'g'\r\n",
    "followed by others": "[[groups]]\nid = 'g'\n[[groups]]\nid = 'h'\n# next\n[[runs]]\nid = 'r'\n",
    "no end of line": "[[groups]]\nid = 'g'",
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_layout_can_be_written_back(tmp_path: Path, layout: str) -> None:
    text = LAYOUTS[layout]
    file = write(tmp_path, text)
    expected: dict[str, Any] = tomllib.loads(text)
    for group in expected["groups"]:
        group.setdefault("run", {})["artifact"] = f"art-{group['id']}"
    writeback.write_back(file, with_artifacts(file, g="art-g", h="art-h"))
    assert tomllib.loads(file.read_bytes().decode()) == expected
    for comment in ("# why", "# all", "# c", "# next"):
        assert (comment in text) == (comment in file.read_text())
    assert (b"\r\n" in file.read_bytes()) == (layout == "windows")


def test_groups_that_were_not_built_stay_as_they_are(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    writeback.write_back(file, with_artifacts(file))
    assert file.read_text() == GOOD


@pytest.mark.parametrize(
    "template", ["{{ range .X }}\n[[groups]]\nid = '{{ . }}'\n{{ end }}", "[[groups]]\nid = '{{ .Env.ID }}'\n"]
)
def test_a_template_is_replaced_by_the_whole_composition(tmp_path: Path, template: str) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file, servers="art-1", clients="art-2")
    given = given.model_copy(update={"global_": given.global_.model_copy(update={"disable_metrics": True})})
    file.write_text(template)
    writeback.write_back(file, given, plan="suite/demo")
    kept = given.global_.model_copy(update={"plan": "suite/demo"})
    assert composition.load(file) == given.model_copy(update={"global_": kept})


def test_writing_back_through_a_symlink(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    writeback.write_back(link, with_artifacts(file, servers="art-1"))
    assert link.is_symlink()
    assert "art-1" in file.read_text()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file)
    file.unlink()
    with pytest.raises(CompositionError, match="failed to write composition file"):
        writeback.write_back(file, given)
