from __future__ import annotations

from pathlib import Path

import pytest

from testground.config import Home
from testground.errors import PlanError
from testground.plan import manifest

GOOD = """
name = "demo"

[defaults]
builder = "exec:python"
runner = "local:exec"

[builders."exec:python"]
enabled = true

[runners."local:exec"]
enabled = true

[[testcases]]
name = "ok"
instances = { min = 1, max = 200, default = 1 }

  [testcases.params]
  size = { type = "int", desc = "how much", unit = "KiB", default = 64 }
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path / "home").create()


def plan(home: Home, name: str, text: str = GOOD) -> Path:
    directory = home.plans / name
    directory.mkdir(parents=True)
    (directory / manifest.FILE).write_text(text)
    return directory


def test_a_good_manifest(home: Home) -> None:
    read = manifest.load(plan(home, "demo"))
    assert read.name == "demo"
    case = read.case("ok")
    assert case and case.parameters
    assert (case.instances.minimum, case.instances.maximum) == (1, 200)
    assert case.parameters["size"].description == "how much"
    assert manifest.unknown_keys(home.plans / "demo") == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("name = \n", "(at line 1, column 8)"),
        ("a = 1\nb = [1,\n\n", "(at end of document)"),
        ("name = 5", "name: a string is needed"),
        ("testcases = 5", "testcases: "),
        ('[[testcases]]\nname = "a"\n[[testcases]]\ninstances = { max = "x" }', "testcases[1].instances.max: a whole"),
        ("[[testcases]]\ninstances = { min = 1.5 }", "testcases[0].instances.min: a whole number is needed"),
        ("[[testcases]]\n[testcases.params.Type]\ndesc = 1", "testcases[0].params.Type.desc: a string is needed"),
        ('builders = { "exec:go" = 1 }', "builders.exec:go: "),
        ("extra_sources = { docker_go = '../x' }", "extra_sources.docker_go: "),
        (
            "[[testcases]]\n[testcases.params.x]\ndefault = nan",
            "testcases[0].params.x.default: a finite number is needed",
        ),
        ("x = " + "[" * 3000 + "]" * 3000, ""),
    ],
)
def test_errors_name_the_file_and_the_line_or_key(home: Home, text: str, problem: str) -> None:
    directory = plan(home, "bad", text)
    with pytest.raises(PlanError) as caught:
        manifest.load(directory)
    assert str(caught.value).startswith(f"failed to parse plan manifest {directory / manifest.FILE}: ")
    assert problem in str(caught.value)


def test_bytes_that_are_no_text(home: Home) -> None:
    directory = plan(home, "bad")
    (directory / manifest.FILE).write_bytes(b'name = "a"\nother = "\xff"\n')
    with pytest.raises(PlanError, match=r"manifest.toml: not UTF-8 \(at line 2\)"):
        manifest.load(directory)


def test_a_file_of_absurd_size(home: Home) -> None:
    directory = plan(home, "bad")
    with (directory / manifest.FILE).open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(PlanError, match="larger than 16 MiB"):
        manifest.load(directory)


def test_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match=r"failed to access plan manifest at .*manifest\.toml: No such file"):
        manifest.load(tmp_path)


def test_unknown_keys_come_with_the_nearest_name(home: Home) -> None:
    directory = plan(home, "odd", GOOD.replace("desc =", "dsc =") + "\n[[testcase]]\nname = 'x'\n[buildrs]\n")
    assert manifest.unknown_keys(directory) == [
        f"{directory / 'manifest.toml'}: unknown key 'testcases[0].params.size.dsc'; did you mean 'desc'?",
        f"{directory / 'manifest.toml'}: unknown key 'testcase'; did you mean 'testcases'?",
        f"{directory / 'manifest.toml'}: unknown key 'buildrs'; did you mean 'builders'?",
    ]


def test_finding_plans(home: Home, tmp_path: Path) -> None:
    plan(home, "alone")
    plan(home, "suite/nested")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / manifest.FILE).write_text(GOOD)
    (home.plans / "linked").symlink_to(tmp_path / "elsewhere")
    (home.plans / "again").symlink_to(tmp_path / "elsewhere")
    (home.plans / "circle").symlink_to(home.plans)
    (home.plans / "empty").mkdir()
    assert manifest.plans(home) == ["again", "alone", "linked", "suite/nested"]
    assert manifest.find_plan(home, "suite/nested") == home.plans / "suite/nested"
    assert manifest.find_plan(home, "linked") == home.plans / "linked"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("suite/nestd", "failed to locate plan in directory: {plans}/suite/nestd; did you mean 'suite/nested'?"),
        ("zzz", "failed to locate plan in directory: {plans}/zzz; there is: alone, suite/nested"),
        ("suite", "failed to access plan manifest at {plans}/suite/manifest.toml"),
        ("../plans/alone", "'../plans/alone' is not a path below {plans}"),
        ("/etc", "'/etc' is not a path below {plans}"),
        ("", "'' is not a path below {plans}"),
        (".", "'.' is not a path below {plans}"),
        ("a\x00b", "'a\x00b' is not a path below {plans}"),
        ("x" * 5000, "failed to locate plan in directory: {plans}/xxx"),
    ],
)
def test_plans_that_are_not_there(home: Home, name: str, text: str) -> None:
    plan(home, "alone")
    plan(home, "suite/nested")
    with pytest.raises(PlanError) as caught:
        manifest.find_plan(home, name)
    assert str(caught.value).startswith("failed to resolve test plan: " + text.format(plans=home.plans))


def test_resolving_an_sdk(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (home.sdks / "sdk-go").mkdir()
    (tmp_path / "here").mkdir()
    assert manifest.resolve_sdk(home, "sdk-go") == home.sdks / "sdk-go"
    assert manifest.resolve_sdk(home, "here") == tmp_path / "here"
    assert manifest.resolve_sdk(home, str(tmp_path / "here")) == tmp_path / "here"
    (home.sdks / "here").mkdir()
    assert manifest.resolve_sdk(home, "here") == tmp_path / "here"
    with pytest.raises(PlanError) as caught:
        manifest.resolve_sdk(home, "sdk-og")
    assert str(caught.value) == (
        "failed to resolve linked SDK directory: no matching paths; "
        f"tried: [{tmp_path}/sdk-og, {home.sdks}/sdk-og]; did you mean 'sdk-go'?"
    )


def test_extra_sources_of_all_builders(home: Home, tmp_path: Path) -> None:
    for name in ("shared", "tools"):
        (tmp_path / name).mkdir()
    source = tmp_path / "source"
    source.mkdir()
    (source / manifest.FILE).write_text(
        GOOD
        + f"[extra_sources]\ndocker_go = ['../shared', '{tmp_path}/tools']\n"
        + "exec_python = ['../shared']\nx_y = ['../no']\n"
    )
    (home.plans / "demo").symlink_to(source)
    plan_dir = home.plans / "demo"
    read = manifest.load(plan_dir)
    assert manifest.extra_dirs(read, ["docker:go", "exec:python", "exec:go"], plan_dir) == [
        tmp_path / "shared",
        tmp_path / "tools",
    ]
    assert manifest.with_absolute_sources(read, plan_dir).extra_sources == {
        "docker_go": [str(tmp_path / "shared"), str(tmp_path / "tools")],
        "exec_python": [str(tmp_path / "shared")],
        "x_y": [str(tmp_path / "no")],
    }
    with pytest.raises(PlanError, match=r"extra_sources: \.\./no is not a directory"):
        manifest.extra_dirs(read, ["x:y"], plan_dir)
    assert manifest.extra_dirs(manifest.load(plan(home, "plain")), ["docker:go"], plan_dir) == []
