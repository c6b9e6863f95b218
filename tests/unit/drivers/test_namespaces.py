"""Processes with files of their own at the machine's paths: they see them, the machine does not, and nothing else
differs.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from testground.drivers import launcher, namespaces

HOSTS = "/etc/hosts"
NOBODY = 65534

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="mount namespaces exist on Linux only")


@pytest.fixture
async def files(tmp_path):
    if obstacle := await namespaces.obstacle(HOSTS):
        pytest.skip(obstacle)
    own = tmp_path / "hosts"
    own.write_text("127.9.9.9\tits-own\n")
    return {HOSTS: own}


async def said(*argv: str, files: dict[str, Path], cwd: Path, **env: str) -> tuple[int, str]:
    output: list[bytes] = []
    started = await namespaces.spawn(argv, files=files, env=env, cwd=cwd, stdout=output.append, stderr=output.append)
    return await started.wait(), b"".join(output).decode()


async def test_it_sees_its_own_file_and_the_machine_does_not(files, tmp_path):
    before = Path(HOSTS).read_text()
    assert await said("/bin/cat", HOSTS, files=files, cwd=tmp_path) == (0, "127.9.9.9\tits-own\n")
    assert Path(HOSTS).read_text() == before


async def test_it_starts_as_it_would_without(files, tmp_path):
    """The same environment, signals, descriptors and user."""
    script = "env; grep -E '^(Sig(Blk|Ign)|[UG]id)' /proc/self/status; ls /proc/self/fd; pwd; exit 7"
    shell = ("/bin/sh", "-c", script)
    without = await said(*shell, files={}, cwd=tmp_path, PATH=os.environ["PATH"], ODD="a=b")
    assert await said(*shell, files=files, cwd=tmp_path, PATH=os.environ["PATH"], ODD="a=b") == without
    assert without[0] == 7 and "ODD=a=b" in without[1]


async def test_a_program_that_is_missing(files, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        await said(str(tmp_path / "missing"), files=files, cwd=tmp_path)
    assert caught.value.filename == str(tmp_path / "missing")


async def test_a_launcher_that_comes_to_nothing(files, tmp_path, monkeypatch):
    """Whatever stopped it, such as a signal: the start ends, and nothing of it is left."""
    pid = tmp_path / "pid"
    monkeypatch.setattr(namespaces, "_LAUNCHER", ("/bin/sh", "-c", f"echo $$ > {pid}; exec sleep 1000"))
    monkeypatch.setattr(namespaces, "LAUNCH_SECONDS", 0.3)
    with pytest.raises(TimeoutError, match="has not begun within 0.3 seconds"):
        await said("/bin/true", files=files, cwd=tmp_path, PATH=os.environ["PATH"])
    assert not Path("/proc", pid.read_text().strip()).exists()


async def test_a_path_that_is_missing(files, tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        await said("/bin/true", files={"/etc/no-such-file": files[HOSTS]}, cwd=tmp_path)
    assert caught.value.filename == "a mount at /etc/no-such-file"


@pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user")
def test_an_ordinary_user(tmp_path):
    """In a user namespace, and as the user that it was, without privileges."""
    python = next((path for path in (sys.executable, shutil.which("python3", path=os.defpath)) if usable(path)), None)
    if python is None:
        pytest.skip("no Python that another user can run")
    script, own = tmp_path / "launcher.py", tmp_path / "hosts"
    shutil.copy(launcher.__file__, script)
    own.write_text("its own\n")
    for directory in (tmp_path, *tmp_path.parents[:2]):
        directory.chmod(0o755)
    argv = [python, "-I", "-S", script, "2", "-", "-", "", own, HOSTS, "--"]
    shell = ["/bin/sh", "-c", f"cat {HOSTS}; id -u; grep CapEff /proc/self/status"]
    done = subprocess.run([*argv, *shell], user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, check=False)
    if done.stderr.startswith((b"a user namespace", b"/proc/self")):
        pytest.skip("this machine allows user namespaces to root only")
    assert (done.stdout.decode(), done.stderr) == (f"its own\n{NOBODY}\nCapEff:\t0000000000000000\n", b"")


async def test_a_machine_that_refuses(tmp_path, monkeypatch):
    refusing = tmp_path / "launcher.py"
    refusing.write_text('print("a user namespace\\n1", end="")\nraise SystemExit(1)\n')
    monkeypatch.setattr(namespaces, "_LAUNCHER", (sys.executable, str(refusing)))
    monkeypatch.setattr(namespaces, "_SETTINGS", {"kernel.nothing": ("0", "1"), "kernel.ostype": ("Linux", "other")})
    assert await namespaces.obstacle(HOSTS) == (
        "this machine refuses a user namespace (Operation not permitted). kernel.ostype is Linux: run 'sysctl -w "
        "kernel.ostype=other' as root, or run the daemon as root"
    )
    monkeypatch.setattr(namespaces, "_SETTINGS", {})
    assert (await namespaces.obstacle(HOSTS)).endswith("one that has CAP_SYS_ADMIN or may make user namespaces")


async def test_another_system(monkeypatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    assert await namespaces.obstacle(HOSTS) == "mount namespaces exist on Linux only"


def usable(python: str | None) -> bool:
    """Whether an ordinary user can run it."""
    if python is None:
        return False
    try:
        return (
            subprocess.run([python, "-I", "-S", "-c", ""], user=NOBODY, capture_output=True, check=False).returncode
            == 0
        )
    except OSError:
        return False
