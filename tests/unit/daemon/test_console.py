"""What the daemon says on its standard output."""

from __future__ import annotations

import logging
import re

import pytest

from testground.daemon import console

LINE = re.compile(r"[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d\.\d{6}\t\x1b\[\d\dm([A-Z]+)\x1b\[0m\t(.*)")


def test_records_become_console_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOG_LEVEL", raising=False)
    with console.attached():
        log = logging.getLogger("testground.daemon.test")
        log.debug("hidden")
        log.info("listening on %d", 7, extra={"fields": {"req_id": "x"}})
        log.warning("careful")
        logging.getLogger("uvicorn.error").info("hidden as well")
        logging.getLogger("uvicorn.error").warning("odd request")
    logging.getLogger("testground.daemon.test").error("not attached any more")
    lines = capsys.readouterr().out.splitlines()
    assert [match.groups() for line in lines if (match := LINE.fullmatch(line))] == [
        ("INFO", 'listening on 7\t{"req_id": "x"}'),
        ("WARN", "careful"),
        ("WARN", "odd request"),
    ]
    assert len(lines) == 3


def test_level_of_the_environment(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOG_LEVEL", "debug")
    with console.attached():
        logging.getLogger("testground.x").debug("seen")
    assert "DEBUG\x1b[0m\tseen" in capsys.readouterr().out


def test_a_traceback_follows_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    with console.attached():
        try:
            raise ValueError("why")
        except ValueError:
            logging.getLogger("testground.x").exception("failed")
    first, *rest = capsys.readouterr().out.splitlines()
    assert LINE.fullmatch(first)
    assert rest[0].startswith("Traceback")
    assert rest[-1] == "ValueError: why"


def test_muted_shows_bugs_only(capsys: pytest.CaptureFixture[str]) -> None:
    with console.muted():
        log = logging.getLogger("testground.x")
        log.warning("the client is told")
        log.error("the client is told")
        try:
            raise ValueError("why")
        except ValueError:
            log.exception("failed")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "the client is told" not in captured.err
    assert "ValueError: why" in captured.err
