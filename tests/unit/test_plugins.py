import pytest
from pydantic import Field

from testground import plugins
from testground.errors import RequestError, UnknownError
from testground.plugins import ComponentConfig, Stop


class Options(ComponentConfig):
    count: int = 1
    ratio: float = 0.5
    fast: bool = False
    name: str = ""
    exposed: dict[str, str] = Field(default_factory=dict, alias="exposed-ports")


class Warnings(list):
    def warn(self, message, **fields):
        self.append(message)


def _configure(*layers):
    warnings = Warnings()
    return plugins.configure("local:exec", Options, layers, warnings), warnings


def test_the_first_layer_wins_key_by_key():
    composition, manifest, env = {"count": 3}, {"count": 2, "name": "manifest"}, {"count": 1, "name": "env", "ratio": 2}
    options, warnings = _configure(composition, None, manifest, env)
    assert options == Options(count=3, name="manifest", ratio=2.0) and not warnings


def test_a_nested_table_replaces_the_lower_one_whole():
    options, _ = _configure({"exposed-ports": {"a": "1"}}, {"exposed-ports": {"b": "2"}})
    assert options.exposed == {"a": "1"}


def test_whole_numbers_that_travelled_through_json():
    options, _ = _configure({"count": 2.0, "ratio": 2})
    assert (options.count, type(options.count), options.ratio) == (2, int, 2.0)


@pytest.mark.parametrize(
    ("given", "key"),
    [({"count": 2.5}, "count"), ({"count": "many"}, "count"), ({"name": 3}, "name"), ({"fast": 7}, "fast")],
)
def test_a_value_of_the_wrong_type_is_an_error_that_names_the_key(given, key):
    with pytest.raises(RequestError, match=f"^error while coalescing configuration values: local:exec: {key}: "):
        _configure(given)


def test_unknown_options_are_warnings_with_the_nearest_name():
    _, warnings = _configure({"cuont": 3, "exposed_ports": {}}, {"zzz": 1})
    assert warnings == [
        "local:exec: unknown option 'cuont'; did you mean 'count'?",
        "local:exec: unknown option 'exposed_ports'; did you mean 'exposed-ports'?",
        "local:exec: unknown option 'zzz'; there is: count, exposed-ports, fast, name, ratio",
    ]


def test_what_only_decorates_a_table_is_no_option():
    assert _configure({"enabled": True}, {"disabled": False}) == (Options(), [])


def test_unknown_components_are_told_with_the_nearest_name():
    with pytest.raises(UnknownError, match=r"^unknown runner: local:exce; did you mean 'local:exec'\?$"):
        plugins.runner("local:exce")
    with pytest.raises(UnknownError, match=r"^unrecognized builder: exec:g0; did you mean 'exec:go'\?$"):
        plugins.builder("exec:g0")


def test_every_registered_component_can_be_loaded_under_its_name():
    assert plugins.builder_ids() and plugins.runner_ids()
    for name in plugins.builder_ids():
        assert plugins.builder(name).id == name and plugins.builder(name) is plugins.builder(name)
    for name in plugins.runner_ids():
        assert plugins.runner(name).id == name
        assert plugins.runner(name).compatible_builders <= set(plugins.builder_ids())


async def test_the_first_request_to_stop_wins():
    stop = Stop()
    assert not stop.requested
    stop.request("the timeout", timed_out=True)
    stop.request("killed")
    await stop.wait()
    assert (stop.reason, stop.timed_out) == ("the timeout", True)
