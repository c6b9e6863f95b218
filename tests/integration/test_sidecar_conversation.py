"""The daemon's end of its connection to a sidecar process, when the process or the daemon is in trouble."""

import json
import os
import resource
import socket
from contextlib import contextmanager

import anyio
import pytest

from testground.sidecar import conversation
from testground.sidecar.conversation import Conversation


@pytest.fixture
async def ends():
    """A conversation, the sidecar's end of its connection, and how often it was given up."""
    ours, theirs = socket.socketpair()
    given_up = []
    talk = Conversation(ours, lambda: given_up.append(True))
    with theirs:
        yield talk, theirs, given_up
        talk.end()


class Answers(list):
    """What was heard, for as many as are waited for."""

    def __init__(self) -> None:
        self._came = anyio.Event()

    def hear(self, answer, descriptors):
        self.append((answer, descriptors))
        self._came.set()

    async def until(self, count):
        with anyio.fail_after(10):
            while len(self) < count:
                self._came = anyio.Event()
                await self._came.wait()


def say(theirs, answer, descriptors=()):
    line = json.dumps({**answer, "descriptors": len(descriptors)}).encode() + b"\n"
    socket.send_fds(theirs, [line], list(descriptors))


async def test_who_does_not_answer_is_given_up(ends, monkeypatch):
    monkeypatch.setattr(conversation, "ANSWER_DEADLINE", 0.05)
    talk, _, given_up = ends
    answers = Answers()
    talk.ask({}, answers.hear)
    talk.ask({}, answers.hear)
    await answers.until(2)
    assert (answers, given_up) == ([(conversation.GONE, [])] * 2, [True])
    assert talk.ended.is_set()


async def test_who_answers_in_time_is_not_given_up(ends, monkeypatch):
    monkeypatch.setattr(conversation, "ANSWER_DEADLINE", 0.2)
    talk, theirs, given_up = ends
    answers = Answers()
    talk.ask({}, answers.hear)
    say(theirs, {})
    await answers.until(1)
    with anyio.move_on_after(0.4):
        await talk.ended.wait()
    assert (given_up, talk.ended.is_set()) == ([], False)


async def test_descriptors_for_which_there_is_no_room(ends):
    """The answer says so, and the ones that follow are heard by those who asked."""
    talk, theirs, _ = ends
    first, second = Answers(), Answers()
    talk.ask({}, first.hear)
    talk.ask({}, second.hear)
    with no_room():
        say(theirs, {}, [theirs.fileno()] * 2)
        await first.until(1)
    say(theirs, {"state": "x"}, [theirs.fileno()])
    await second.until(1)
    [(answer, [descriptor])] = second
    os.close(descriptor)
    assert (first, answer["state"]) == ([(conversation.NO_ROOM, [])], "x")


@contextmanager
def no_room():
    """For one more descriptor, but not for two."""
    lowest = os.dup(0)
    os.close(lowest)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 1, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


async def test_requests_that_nobody_reads(ends, monkeypatch):
    monkeypatch.setattr(conversation, "MOST_UNSENT", 1 << 20)
    talk, _, _ = ends
    answers = Answers()
    for _ in range(100):
        talk.ask({"config": "x" * 32_000}, answers.hear)
    assert answers and set(map(str, answers)) == {str((conversation.BUSY, []))}


async def test_requests_after_the_end_are_refused():
    """Of instances that speak with their last breath."""
    ours, theirs = socket.socketpair()
    talk = Conversation(ours, lambda: None)
    answers = Answers()
    with theirs:
        talk.ask({}, answers.hear)
        talk.end()
        talk.ask({}, answers.hear)
    assert answers == [(conversation.GONE, [])] * 2
