import io
from typing import Any

from rich.console import Console

from testground.api.rpc import Chunk
from testground.api.task import Task
from testground.cli.live import Board, Screen, verdict

STAMP = "2026-11-23T18:26:17.516257977Z"


def rendered(thing: Any) -> list[str]:
    console = Console(file=io.StringIO(), width=100)
    console.print(thing)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def states(group: str, **counts: Any) -> Chunk:
    return Chunk("p", b"", extra={"states": {"group": group, **counts}})


def task(state: str = "complete", **changes: Any) -> Task:
    return Task.model_validate({"id": "x", "type": "run", "states": [{"created": STAMP, "state": state}], **changes})


def test_the_board_has_a_row_per_group() -> None:
    board = Board("run default")
    assert [line.strip() for line in rendered(board)] == ["⠋ run default"]
    board.take(Chunk("p", b"a line", extra={}))
    board.take(states("small", total=1, running=1, ok=0, failed=0))
    board.take(states("large", total=24, running=10, ok=12, failed=2))
    board.take(states("small", total=1, running=0, ok=1, failed=0))
    heading, small, large, _ = rendered(board)
    assert heading.split() == ["group", "instances", "running", "ok", "failed"]
    assert small.split() == ["small", "━" * 24, "1", "0", "1", "0"]
    assert large.split() == ["large", "━" * 24, "24", "10", "12", "2"]


def test_the_board_survives_nonsense() -> None:
    board = Board("run")
    for value in (None, [], {}, {"group": 7, "total": "many"}, {"group": "g", "total": 0}, {"total": -1, "ok": 3}):
        board.take(Chunk("p", b"", extra={"states": value}))
        rendered(board)


def test_lines_scroll_by_whole_whatever_their_cut() -> None:
    stream = io.StringIO()
    screen = Screen(stream)
    for piece in (b"half ", "lüne\nnext".encode()[:3], "lüne\nnext".encode()[3:], b"\x1b[31mred\x1b[0m"):
        screen.chunk(Chunk("p", piece, extra={}))
    assert stream.getvalue() == "half lüne\n"
    screen.verdict("plan:case", task())
    assert stream.getvalue().splitlines()[1] == "nextred"


def test_the_verdict_says_why() -> None:
    failures = [
        {"instance": f"g[{i}]", "reason": "died" if i == 0 else "waited for g[0]", "seconds": i, "last_lines": ["boom"]}
        for i in range(7)
    ] + [{"instance": f"h[{i}]", "reason": f"reason {i}"} for i in range(5)]
    result = {"outcome": "failure", "outcomes": {"g": {"ok": 1, "total": 8}}, "failures": failures}
    lines = [line.strip("│ ") for line in rendered(verdict("plan:case run r", task(result=result)))]
    assert lines[0].startswith("╭─ plan:case run r: failure ─")
    assert lines[1:-1] == [
        "g: 1/8 ok",
        "first failure: g[0] after 0.0s: died",
        "then: g[1], g[2], g[3], g[4], g[5] and 1 more: waited for g[0]",
        *(f"then: h[{i}]: reason {i}" for i in range(4)),
        "… and others for 1 more reason(s)",
        "the last lines of g[0]:",
        "boom",
    ]


def test_the_verdict_of_what_never_ran() -> None:
    assert "it rained" in "".join(rendered(verdict("t", task("canceled", error="it rained"))))
    assert "t: passed" in "".join(rendered(verdict("t", task(type="build", result=["/art"]))))
    assert "t: unknown" in "".join(rendered(verdict("t", task(result={"outcome": []}))))
