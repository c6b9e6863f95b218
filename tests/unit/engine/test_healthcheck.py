"""The checks that are made before a run, of all that a runner has."""

from testground.engine import jobs
from testground.health import Check


class Runner:
    def __init__(self):
        self.made = []

    def checks(self, env):
        return [Check("needed", self._probe("needed")), Check("asked for", self._probe("asked for"), on_demand=True)]

    def _probe(self, name):
        async def probe():
            self.made.append(name)
            return True, ""

        return probe


class Output:
    def __init__(self):
        self.said = []

    def info(self, message, **fields):
        self.said.append(message)


async def test_what_only_tells_what_is_possible_is_left_to_who_asks():
    runner, output = Runner(), Output()
    await jobs._check_health(runner, None, output)
    assert (runner.made, output.said) == (["needed"], ["healthcheck: ok"])
