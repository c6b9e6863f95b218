from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from testground.api.composition import Dependency
from testground.builders.requirements import Requirements, gather, normalise
from testground.errors import BuildError
from testground.plugins import BuildSources


@pytest.fixture
def sources(tmp_path: Path) -> BuildSources:
    (tmp_path / "plan").mkdir()
    return BuildSources(tmp_path, tmp_path / "plan")


def texts(requirements: Requirements) -> list[str]:
    return [line.text for line in requirements.lines]


def write(sources: BuildSources, **files: str) -> None:
    for name, text in files.items():
        path = sources.plan / name.replace("__", "/").replace("_txt", ".txt").replace("_toml", ".toml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        ("a\nb\n", ["a", "b"]),
        ("b\na\na\n", ["a", "b"]),
        ("\ufeffa\n", ["a"]),
        ("# nothing\n  # more\na # why\nb#c", ["a", "b#c"]),
        ("a \\\n  --hash=sha256:00\nb", ["a    --hash=sha256:00", "b"]),
        ("a==1\r\nb\r\n", ["a==1", "b"]),
        ("z\n--pre\n-i index\na\n", ["--pre", "-i index", "a", "z"]),
        ("a[x,y] >= 1 ; python_version < '4'", ["a[x,y] >= 1 ; python_version < '4'"]),
        ("a @ https://example.test/a.whl#sha256=00", ["a @ https://example.test/a.whl#sha256=00"]),
        ("git+https://example.test/a/b@main", ["git+https://example.test/a/b@main"]),
        ("-e git+https://example.test/a/b", ["git+https://example.test/a/b"]),
        ("testground>=0.1\nTestGround\na", ["a"]),
        ("testground-extra", ["testground-extra"]),
    ],
)
def test_lines_of_requirements_txt(sources: BuildSources, text: str, expected: list[str]) -> None:
    write(sources, requirements_txt=text)
    assert texts(gather(sources, [], [])) == expected


def test_all_three_places_are_united(sources: BuildSources) -> None:
    write(sources, requirements_txt="a\nb", pyproject_toml='[project]\ndependencies = ["b", "c>=1"]')
    assert texts(gather(sources, ["d", "a"], [])) == ["a", "b", "c>=1", "d"]


def test_a_pyproject_without_project_needs_nothing(sources: BuildSources) -> None:
    write(sources, pyproject_toml="[tool.ruff]\nline-length = 120")
    assert gather(sources, [], []) == Requirements()


def test_included_files_stand_in_their_place(sources: BuildSources) -> None:
    write(
        sources, requirements_txt="-r more.txt\n--requirement=sub/deep.txt", more_txt="a", sub__deep_txt="-r base.txt"
    )
    write(sources, sub__base_txt="b")
    assert texts(gather(sources, [], [])) == ["a", "b"]


def test_constraints_count_by_content_not_by_place(sources: BuildSources) -> None:
    write(sources, requirements_txt="-c limits.txt\na", limits_txt="a<2")
    first = gather(sources, [], [])
    assert texts(first) == [f"-c {sources.plan}/limits.txt", "a"]
    assert str(sources.plan) not in "".join(first.identity)
    write(sources, limits_txt="a<3")
    assert gather(sources, [], []).identity != first.identity


@pytest.mark.parametrize("line", ["./lib", "lib/", "-e ./lib", "-e lib", "--editable=lib", "./lib[x]", "../plan/lib"])
def test_directories_of_the_plan_count_by_content(sources: BuildSources, line: str) -> None:
    write(sources, lib__code_txt="1", requirements_txt=line)
    first = gather(sources, [], [])
    assert texts(first)[0].removesuffix("[x]") == f"{sources.plan}/lib"
    assert str(sources.plan) not in "".join(first.identity)
    write(sources, lib__code_txt="2")
    assert gather(sources, [], []).identity != first.identity


def test_extra_sources_and_vendored_wheels_can_be_named(sources: BuildSources) -> None:
    (sources.base / "extra" / "lib").mkdir(parents=True)
    write(sources, wheels__a_txt="", requirements_txt="-f wheels\n../extra/lib")
    assert texts(gather(sources, [], [])) == [f"-f {sources.plan}/wheels", f"{sources.base}/extra/lib"]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"requirements_txt": "./nowhere"}, "requirements.txt: there is no file or directory './nowhere'"),
        ({"requirements_txt": "./a\0b"}, "requirements.txt: there is no file or directory './a\0b'"),
        ({"requirements_txt": "./" + "x" * 300}, "requirements.txt: there is no file or directory './xxx"),
        ({"requirements_txt": "-r"}, "requirements.txt: there is no file or directory ''"),
        ({"requirements_txt": "../.."}, "requirements.txt: '../..' is not a path inside the plan"),
        ({"requirements_txt": "/etc/passwd"}, "requirements.txt: '/etc/passwd' is not a path inside the plan"),
        ({"requirements_txt": "-r a.txt", "a_txt": "-r requirements.txt"}, "includes itself"),
        ({"pyproject_toml": "[project"}, "pyproject.toml: Expected ']'"),
        ({"pyproject_toml": "[project]\ndependencies = 'a'"}, "project.dependencies: a list of strings is needed"),
        ({"pyproject_toml": "project = 1"}, "project.dependencies: a list of strings is needed"),
    ],
)
def test_mistakes_name_the_file(sources: BuildSources, files: dict[str, str], message: str) -> None:
    write(sources, **files)
    with pytest.raises(BuildError) as raised:
        gather(sources, [], [])
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("dependency", "lines", "overrides"),
    [
        (("a", "", "2"), ["a[x]==2", "b"], ["a[x]==2"]),
        (("A", "", ">=2"), ["A[x]>=2", "b"], ["A[x]>=2"]),
        (("a", "", ""), ["a[x]", "b"], []),
        (("c", "", "1"), ["a[x]>=1", "b", "c==1"], ["c==1"]),
        (("a", "fork", "2"), ["b", "fork[x]==2"], []),
        (
            ("a", "git+https://example.test/a", "dev"),
            ["a[x] @ git+https://example.test/a@dev", "b"],
            ["a[x] @ git+https://example.test/a@dev"],
        ),
        (("a", "https://example.test/a.whl", ""), ["a[x] @ https://example.test/a.whl", "b"], None),
    ],
)
def test_dependency_overrides(
    sources: BuildSources, dependency: tuple[str, str, str], lines: list[str], overrides: list[str] | None
) -> None:
    module, target, version = dependency
    found = gather(sources, ["a[x]>=1", "b"], [Dependency(module=module, target=target, version=version)])
    assert texts(found) == lines
    assert overrides is None or list(found.overrides) == overrides


def test_an_override_by_a_directory(sources: BuildSources) -> None:
    write(sources, fork__code_txt="")
    found = gather(sources, ["a>=1"], [Dependency(module="a", target="./fork")])
    assert texts(found) == [f"{sources.plan}/fork"]


def test_an_override_must_name_a_distribution(sources: BuildSources) -> None:
    with pytest.raises(BuildError, match="'--index' is not the name of a Python distribution"):
        gather(sources, [], [Dependency(module="--index", version="1")])


names = st.from_regex(r"[a-z][a-z0-9]{0,8}", fullmatch=True).filter(lambda name: name != "testground")


@settings(deadline=None)
@given(st.lists(names), st.randoms())
def test_order_and_repetition_do_not_matter(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[str], random
) -> None:  # type: ignore[no-untyped-def]
    sources = _empty(tmp_path_factory)
    shuffled = [*wanted, *wanted]
    random.shuffle(shuffled)
    assert gather(sources, wanted, []) == gather(sources, shuffled, [])


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    sources = _empty(tmp_path_factory)
    try:
        found = gather(sources, [text], [])
    except BuildError:
        return
    _ = found.names
    assert all(line.text.strip() == line.text != "" for line in found.lines)


@pytest.mark.parametrize("name", ["Foo-Bar", "foo_bar", "foo.bar", "FOO--bar"])
def test_normalise(name: str) -> None:
    assert normalise(name) == "foo-bar"


_made: list[BuildSources] = []


def _empty(factory: pytest.TempPathFactory) -> BuildSources:
    if not _made:
        base: Path = factory.mktemp("sources")
        (base / "plan").mkdir()
        _made.append(BuildSources(base, base / "plan"))
    return _made[0]
