from __future__ import annotations

import os
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
        (f"a = {'9' * 5000}\n", "a whole number has thousands of digits"),
        ("[global]\nplan = 'p'\n# {{ a }}\n", "composition template: function 'a' not defined (at line 3, column 6)"),
        ("[global]\nplan = '{{ .Evn }}'", "template: there is no field .Evn here, only .Env (at line 2, column 12)"),
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


def test_templates_are_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLAN", "suite/demo")
    (tmp_path / "resources").mkdir()
    (tmp_path / "resources" / "clients.toml").write_text("[[clients]]\nid = 'a'\n[[clients]]\nid = 'b'\n")
    file = write(
        tmp_path,
        """
# the plan of {{ .Env.PLAN }}
[global]
plan = "{{ .Env.PLAN }}"
{{ range (load_resource "resources/clients.toml").clients }}
[[groups]]
id = "{{ .id }}"
{{- end }}
""",
    )
    read = composition.load(file)
    assert read.global_.plan == "suite/demo"
    assert [group.id for group in read.groups or []] == ["a", "b"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "{{/* two\nlines */}}\n[global]\ntotal_instances = {{ .Env.NOT_SET }}\n",
            "Invalid value (at line 3, column 19), once its templates are expanded: "
            "there, line 3 is 'total_instances = <no value>', which comes from line 4 of the file"
            "; <no value> stands for a variable or key that is not there",
        ),
        (
            '[global]\n{{ range split "a,b" }}\n  plan = "{{ . }}"\n{{ end }}',
            "Cannot overwrite a value (at line 5, column 13), once its templates are expanded: "
            "there, line 5 is 'plan = \"b\"', which comes from line 3 of the file",
        ),
        (
            "{{ $x := 1 -}}\na = [",
            "Invalid value (at end of document), once its templates are expanded: "
            "there, line 1 is 'a = [', which comes from line 2 of the file",
        ),
    ],
)
def test_errors_in_what_templates_make_show_the_line(tmp_path: Path, text: str, problem: str) -> None:
    file = write(tmp_path, text)
    with pytest.raises(CompositionError) as caught:
        composition.load(file)
    assert str(caught.value) == (
        f"failed to load composition file: {file}: failed to process composition file: {problem}"
    )


def test_an_error_that_names_a_key_needs_no_line(tmp_path: Path) -> None:
    file = write(tmp_path, "[global.run_config]\na = {{ print `inf` }}")
    with pytest.raises(CompositionError) as caught:
        composition.load(file)
    assert str(caught.value) == (
        f"failed to load composition file: {file}: global.run_config.a: a finite number is needed"
    )


def test_an_error_shows_only_the_start_of_a_long_line(tmp_path: Path) -> None:
    file = write(tmp_path, 'a = {{ range 1000 }}"x", {{ end }}')
    with pytest.raises(
        CompositionError, match=r"line 1 is 'a = (\"x\", ){39}\"…', which comes from line 1 of the file$"
    ):
        composition.load(file)


def test_values_that_templates_leave_open_are_named(tmp_path: Path) -> None:
    text = "[global]\nplan = '{{ .Env.NOT_SET }}'\n[[groups]]\nid = 'a'\n[[groups]]\nid = 'g-{{ .Env.NOT_SET }}'\n"
    assert composition.missing_values(composition.read(write(tmp_path, text))) == [
        "'global.plan' contains <no value>: a template asks for a variable or key that is not there",
        "'groups[1].id' contains <no value>: a template asks for a variable or key that is not there",
    ]


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
    return read.model_copy(update={"groups": groups})


def test_writing_back_changes_nothing_but_artifacts(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    file.chmod(0o640)
    writeback.write_back(file, with_artifacts(file, servers="art-1", clients="art-2"))
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


TEMPLATES = [
    '{{ range split "servers,clients" }}\n[[groups]]\nid = "{{ . }}"\n{{ end }}',
    "[[groups]]\nid = '{{ .Env.SERVERS }}'\n[[groups]]\nid = 'clients'\n",
    "[[groups]]\nid = 'servers'\n[[groups]]\nid = 'clients'\n# {{ if true }}\n[[groups]]\nid = 'x'\n# {{ end }}",
    "{{ broken",
    "{{/**/}}a = " + "9" * 5000,
]


@pytest.mark.parametrize("template", TEMPLATES)
def test_groups_that_templates_make_are_written_out_and_the_template_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str
) -> None:
    monkeypatch.setenv("SERVERS", "servers")
    file = write(tmp_path, GOOD)
    given = with_artifacts(file, servers="art-1", clients="art-2")
    given = given.model_copy(update={"global_": given.global_.model_copy(update={"disable_metrics": True})})
    file.write_text(template)
    writeback.check(file, given)
    kept = tmp_path / "composition.toml.template"
    assert writeback.write_back(file, given) == kept
    assert kept.read_text() == template
    assert composition.load(file) == given


def test_no_other_file_is_taken_for_the_place_of_a_template(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file, servers="art-1")
    file.write_text(TEMPLATES[0])
    kept = tmp_path / "composition.toml.template"
    kept.write_text(TEMPLATES[0])
    writeback.check(file, given)
    kept.write_text("mine")
    with pytest.raises(CompositionError, match="its groups come from templates, and .* would be kept in .*; move it"):
        writeback.check(file, given)
    with pytest.raises(CompositionError, match="its groups come from templates"):
        writeback.write_back(file, given)
    assert (file.read_text(), kept.read_text()) == (TEMPLATES[0], "mine")


def test_a_file_that_was_changed_during_the_run_is_kept(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file, servers="art-1", clients="art-2")
    changed = GOOD.replace('"servers"', '"leaders"')
    file.write_text(changed)
    file.chmod(0o640)
    kept = tmp_path / "composition.toml.old"
    assert writeback.write_back(file, given) == kept
    assert (kept.read_text(), kept.stat().st_mode & 0o777) == (changed, 0o640)
    assert composition.load(file) == given


def test_nothing_is_kept_behind_a_symlink(tmp_path: Path) -> None:
    """It may lead to the file itself, which is to be replaced."""
    file = write(tmp_path, GOOD)
    given = with_artifacts(file, servers="art-1")
    file.write_text(TEMPLATES[0])
    file.with_name("composition.toml.template").symlink_to(file)
    with pytest.raises(CompositionError, match="move it"):
        writeback.write_back(file, given)
    assert file.read_text() == TEMPLATES[0]


def test_a_directory_that_cannot_be_written_to_is_known_before_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file)
    monkeypatch.setattr(os, "access", lambda place, mode: mode != os.W_OK)  # permissions do not bind the superuser
    with pytest.raises(CompositionError, match="cannot write artifacts to .* cannot be written to"):
        writeback.check(file, given)


def test_groups_that_are_written_down_keep_the_templates_around_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLAN", "suite/demo")
    text = GOOD.replace('"suite/demo"', '"{{ .Env.PLAN }}"')
    file = write(tmp_path, text)
    assert writeback.write_back(file, with_artifacts(file, servers="art-1", clients="art-2")) is None
    assert 'plan = "{{ .Env.PLAN }}"' in file.read_text()
    assert [group.run.artifact for group in composition.load(file).groups or []] == ["art-1", "art-2"]
    assert list(tmp_path.iterdir()) == [file]


def test_writing_back_through_a_symlink(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    link = tmp_path / "link.toml"
    link.symlink_to(file)
    writeback.write_back(link, with_artifacts(file, servers="art-1"))
    assert link.is_symlink()
    assert "art-1" in file.read_text()


def test_the_table_of_a_run_is_apart_from_what_follows(tmp_path: Path) -> None:
    file = write(tmp_path, "[[groups]]\nid = 'a'\n\n[[groups]]\nid = 'b'\n\n[[runs]]\nid = 'r'\n")
    writeback.write_back(file, with_artifacts(file, a="art-1", b="art-2"))
    assert file.read_text() == (
        "[[groups]]\nid = 'a'\n\n[groups.run]\nartifact = \"art-1\"\n\n"
        "[[groups]]\nid = 'b'\n\n[groups.run]\nartifact = \"art-2\"\n\n[[runs]]\nid = 'r'\n"
    )
    file.write_text("[[groups]]\nid = 'a'\n")
    writeback.write_back(file, with_artifacts(file, a="art-1"))
    assert file.read_text().endswith('[groups.run]\nartifact = "art-1"\n')


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    file = write(tmp_path, GOOD)
    given = with_artifacts(file)
    file.unlink()
    with pytest.raises(CompositionError, match="failed to write composition file"):
        writeback.write_back(file, given)
