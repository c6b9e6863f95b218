"""What of a plan upstream's published client sends, and what our daemon makes of it (client-daemon §1.3, §6.6)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.acceptance.processes import started
from tests.upstream import client, programs
from tests.upstream.client import GoClient

pytestmark = [
    pytest.mark.skipif(bool(programs.missing()), reason=programs.missing()),
    pytest.mark.timeout(programs.BUILD_DEADLINE),
]


def test_an_sdk_and_dependencies_go_along(go: GoClient) -> None:
    sdk = go.home / "sdks" / "mine"
    sdk.mkdir(parents=True)
    (sdk / "content").write_text("of the sdk")
    (go.home / "plans" / "shell" / "manifest.toml").write_text(
        client.MANIFEST.replace(
            'artifact = "run.sh"', 'build = ["sh", "-c", "cat $TESTGROUND_SDK/content"]\nartifact = "run.sh"'
        )
    )
    done = go("build", "single", "-p", "shell", "-b", "exec:generic", "--link-sdk", "mine", "--wait")
    assert done.exit_code == 0
    assert done.log("of the sdk")
    done = go("build", "single", "-p", "shell", "-b", "exec:generic", "--link-sdk", "mine", "--wait", "--dep", "a=b@v1")
    assert done.exit_code == 0
    assert done.log("exec:generic does not know how to replace dependencies")


def test_plans_arrive_without_what_they_ignore(go: GoClient) -> None:
    """L8; symlinks come without content from this client, and it is told so (§7.1 no. 20)."""
    plan = go.home / "plans" / "shell"
    for name in (".hidden", "sub/deep/keep", "drop.out", "sub/drop.out", "gone/x"):
        (plan / name).parent.mkdir(parents=True, exist_ok=True)
        (plan / name).write_text(name)
    (plan / ".testgroundignore").write_text("*.out\ngone\n")
    (plan / "link").symlink_to("run.sh")
    done = go.run("list", "--wait")
    assert done.exit_code == 0
    listed = [line.rpartition(">> ")[2] for line in done.log(">> ./")]
    assert listed == [
        f"./{name}" for name in (".hidden", ".testgroundignore", "link", "manifest.toml", "run.sh", "sub/deep/keep")
    ]
    assert done.log(
        "plan.zip: the client sent symlinks without what they point to, they are empty files in the build: link"
    )


def test_a_request_that_the_client_gives_up_leaves_nothing(go: GoClient, home: Path) -> None:
    """It finds the link that leads nowhere in the middle of its upload (§7.1 no. 20)."""
    link = go.home / "plans" / "shell" / "dangling"
    link.symlink_to("nowhere")
    done = go.run("ok", "--wait")
    assert (done.exit_code, done.run_ids) == (1, [])
    assert "dangling: no such file or directory" in done.stdout.splitlines()[-1]
    link.unlink()
    assert go.run("ok", "--wait").exit_code == 0
    assert not list((home / "data" / "work" / "requests").iterdir())


def test_extra_sources_lie_beside_the_plan(go: GoClient) -> None:
    shared = go.home / "plans" / "shared" / "inner"
    shared.mkdir(parents=True)
    (shared / "text").write_text("from next door")
    (go.home / "plans" / "shell" / "manifest.toml").write_text(
        client.MANIFEST.replace(
            'artifact = "run.sh"', 'build = ["sh", "-c", "cat ../extra/shared/inner/text"]\nartifact = "run.sh"'
        )
        + '[extra_sources]\nexec_generic = ["../shared"]\n'
    )
    done = go.run("ok", "--wait")
    assert done.exit_code == 0
    assert done.log("from next door")


@pytest.mark.slow
def test_a_plan_of_two_hundred_megabytes_arrives(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    with started(home) as daemon, open("/dev/urandom", "rb") as noise:
        go = client.create(tmp_path, daemon.endpoint)
        with (go.home / "plans" / "shell" / "blob").open("wb") as blob:
            for _ in range(200):
                blob.write(noise.read(1 << 20))
        done = go.run("ok", "--wait")
    assert done.exit_code == 0
    assert not list((home / "data" / "work" / "requests").iterdir())
    for plan in (go.home / "plans", home / "data" / "work"):
        shutil.rmtree(plan)
