"""Series from the outputs of runs (client-daemon §1.5, contract §2.7)."""

import json
import os

import pytest
from anyio import to_thread

from testground.config import Home
from testground.engine import series
from testground.engine.series import RunKey
from testground.errors import RequestError, RunError

NOW = 1_795_458_290_449_700_904


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path).create()


def _line(name="lat", value=1.0, kind="point", ts=NOW, **measures):
    return {"ts": ts, "type": kind, "name": name, "measures": measures or {"value": value}}


def _run(home, *instances, run_id="r1", plan="demo", case="ok"):
    """A run whose instances have left these lines."""
    for index, lines in enumerate(instances):
        directory = home.outputs / "local_exec" / plan.replace("/", "-") / run_id / "single" / str(index)
        directory.mkdir(parents=True)
        text = "".join(line if isinstance(line, str) else json.dumps(line) + "\n" for line in lines)
        (directory / "results.out").write_text(text)
    return RunKey(run_id, "local:exec", plan, case)


async def _table(name, runs, home, since=0.0):
    return await to_thread.run_sync(series.table, name, runs, home, since)


async def test_a_cell_is_the_mean_over_all_instances(home):
    run = _run(home, [_line(value=1), _line(value=2)], [_line(value=6, ts=NOW + 10**9)])
    table = await _table("results.demo-ok.lat.point", [run], home)
    assert table == [["Time", "value"], ["2026-11-23T18:24:51.449700904Z", "3"]]


async def test_a_column_for_each_combination_of_tags(home):
    old = _run(home, [_line("lat,peer=a,dir=in", 1.5), _line("lat,dir=in,peer=a", 2.5)], run_id="r1")
    new = _run(home, [_line("lat,peer=b,group_id=x,run=y,empty=", 4), _line("lat", 5, ts=NOW + 1)], run_id="r2")
    assert await _table("results.demo-ok.lat.point", [old, new], home) == [
        ["Time", "dir=in,peer=a", "peer=b", "value"],
        ["2026-11-23T18:24:50.449700904Z", "2", "", ""],
        ["2026-11-23T18:24:50.449700905Z", "", "4", "5"],
    ]


async def test_only_what_the_series_names_counts(home):
    run = _run(
        home,
        [
            _line(value=1),
            _line("late", 9),
            _line("lat", 9, "gauge"),
            _line("lat", kind="point", count=9),
            _line("got.info", 7, "gauge"),
        ],
    )
    other = _run(home, [_line(value=9)], run_id="r2", case="other")
    assert await _table("results.demo-ok.lat.point", [run, other], home) == [
        ["Time", "value"],
        ["2026-11-23T18:24:50.449700904Z", "1"],
    ]
    assert (await _table("results.demo-ok.got.info.gauge", [run], home))[1][1] == "7"


async def test_runs_without_values_have_no_row(home):
    bare, gone = _run(home, [_line("other")]), RunKey("r9", "local:exec", "demo", "ok")
    elsewhere = RunKey("r8", "cluster:k8s", "demo", "ok")
    assert await _table("results.demo-ok.lat.point", [bare, gone, elsewhere], home) == [["Time"]]


async def test_values_older_than_the_window_do_not_count(home):
    run = _run(home, [_line(value=1), _line(value=5, ts=NOW + 10**9)])
    table = await _table("results.demo-ok.lat.point", [run], home, since=NOW / 1e9 + 0.5)
    assert [row[1] for row in table] == ["value", "5"]


async def test_a_nested_plan_is_named_as_its_instances_name_it(home):
    run = _run(home, [_line(value=1.5)], plan="a/b", case="c/d")
    assert (await _table("results.a-b-c-d.lat.point", [run], home))[1][1] == "1.5"


async def test_lines_that_are_none_are_left_out(home):
    good = json.dumps(_line(value=1)) + "\n"
    bad = ["\n", "{\n", "[]\n", "null\n", '{"ts":"x"}\n', "x" * 200_000 + "\n", '{"ts":1e99,"type":"point"}\n']
    bad += [json.dumps(_line(ts=-1)) + "\n", json.dumps(_line(ts=1 << 70)) + "\n", good[:20]]
    run = _run(home, [good, *bad])
    assert [row[1] for row in await _table("results.demo-ok.lat.point", [run], home)] == ["value", "1"]


async def test_what_is_not_a_file_is_left_out(home):
    run = _run(home, [_line(value=1)], [_line(value=9)])
    instances = home.outputs / "local_exec" / "demo" / "r1" / "single"
    (instances / "1" / "results.out").unlink()
    os.mkfifo(instances / "1" / "results.out")
    assert [row[1] for row in await _table("results.demo-ok.lat.point", [run], home)] == ["value", "1"]


@pytest.mark.parametrize(
    "name", ["x", "results", "results.", "results.x", "results.a-b.", "diagnostics.a-b.x.point", ".."]
)
async def test_a_name_of_another_form_is_refused(home, name):
    with pytest.raises(RequestError, match=": a series is named results.PLAN-CASE.METRIC.TYPE$"):
        await _table(name, [], home)


async def test_a_file_that_cannot_be_opened_is_named(home, monkeypatch):
    run = _run(home, [_line()])

    def refuse(self, mode):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.open", refuse)
    with pytest.raises(RunError, match="results.out cannot be read: Permission denied"):
        await _table("results.demo-ok.lat.point", [run], home)
