import pytest

from testground import config
from testground.config import Home
from testground.errors import ConfigError


def test_defaults_and_directories(tmp_path):
    env = config.load(Home(tmp_path / "home"))
    assert env.daemon.listen == "localhost:8042"
    assert env.daemon.scheduler.queue_size == 100
    assert env.home.plans.is_dir() and env.home.daemon.is_dir() and env.home.work.is_dir()


def test_file_overrides_defaults_and_unknown_keys_are_named(tmp_path):
    (tmp_path / ".env.toml").write_text(
        '[daemon]\nlisten = "localhost:0"\ntokns = ["a"]\n[daemon.scheduler]\nworkers = 4\nquue_size = 1\n'
        '[runners."local:exec"]\ndisabled = true\n'
    )
    env = config.load(Home(tmp_path))
    assert env.daemon.listen == "localhost:0" and env.daemon.scheduler.workers == 4
    assert env.runner_disabled("local:exec") and not env.runner_disabled("local:docker")
    assert env.warnings == (
        ".env.toml: unknown key 'daemon.tokns'; did you mean 'tokens'?",
        ".env.toml: unknown key 'daemon.scheduler.quue_size'; did you mean 'queue_size'?",
    )


def test_disabled_needs_a_real_boolean(tmp_path):
    (tmp_path / ".env.toml").write_text('[runners."local:exec"]\ndisabled = "true"\n')
    assert not config.load(Home(tmp_path)).runner_disabled("local:exec")


@pytest.mark.parametrize(
    ("text", "mentions"),
    [
        ("[daemon\n", "line 1"),
        pytest.param(f"a = {'9' * 5000}\n", "5000 digits", id="digits"),
        pytest.param("a = " + "[" * 5000, "recursion", id="depth"),
        ('[daemon.scheduler]\nworkers = "two"\n', "daemon.scheduler.workers"),
        ("[daemon.scheduler]\nworkers = 0\n", "daemon.scheduler.workers"),
        ("[daemon.scheduler]\ntask_timeout_min = -0.5\n", "daemon.scheduler.task_timeout_min"),
        ("[daemon.scheduler]\ntask_timeout_min = inf\n", "daemon.scheduler.task_timeout_min"),
        ('daemon = "x"\n', "daemon"),
        ('[daemon]\nslack_webhook_url = "hooks.example/SECRET"\n', "daemon.slack_webhook_url: an address such as"),
        ('[daemon]\nroot_url = "http://[::1"\n', "daemon.root_url: "),
        ('[daemon]\ngithub_api_url = "https:///api/SECRET"\n', "daemon.github_api_url: an address such as"),
    ],
)
def test_bad_file_is_one_error_naming_file_and_key(tmp_path, text, mentions):
    (tmp_path / ".env.toml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        config.load(Home(tmp_path))
    assert str(tmp_path / ".env.toml") in caught.value.message and mentions in caught.value.message
    assert "SECRET" not in caught.value.message


def test_home_precedence(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert config.find_home({"TESTGROUND_HOME": "/a/b"}).root.as_posix() == "/a/b"
    assert config.find_home({"XDG_CONFIG_HOME": "/x"}).root.as_posix() == "/x/testground"
    assert config.find_home({}).root == tmp_path / ".config" / "testground"
    (tmp_path / "testground").mkdir()
    assert config.find_home({"XDG_CONFIG_HOME": "/x"}).root == tmp_path / "testground"


def test_home_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot create the home directory"):
        config.load(Home(tmp_path / "file" / "home"))


def test_settings_of_notifications(tmp_path):
    (tmp_path / ".env.toml").write_text(
        '[daemon]\nslack_webhook_url = "https://hooks.example/T/B/x"\ngithub_api_url = "http://localhost:1/api/v3"\n'
        'github_repo_status_tokn = "t"\n'
    )
    env = config.load(Home(tmp_path))
    assert env.daemon.slack_webhook_url == "https://hooks.example/T/B/x"
    assert env.daemon.github_api_url == "http://localhost:1/api/v3"
    assert env.warnings == (
        ".env.toml: unknown key 'daemon.github_repo_status_tokn'; did you mean 'github_repo_status_token'?",
    )
