"""Bad input at the command line: one sentence with the place and the nearest valid value, its exit status, and nothing
half-written.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.acceptance.conftest import CommandLine, command_line
from tests.acceptance.processes import Daemon, start, started

pytestmark = pytest.mark.timeout(120)

CASES = ("ok", "hang", "stubborn", "silent", "liar", "dies", "flood", "forks")
MANIFEST = """name = "naughty"
[builders."exec:generic"]
artifact = "run.sh"
[runners."local:exec"]
""" + "".join(
    f'[[testcases]]\nname = "{case}"\ninstances = {{ min = 1, max = 5 }}\n'
    '[testcases.params]\nsize = { type = "int", default = 1 }\n'
    for case in CASES
)

RUN = r"""#!/bin/sh
succeed() { echo '{"event":{"success_event":{"group":"single"}}}'; }
case "$TEST_CASE" in
    hang) echo hanging; exec sleep 1000 ;;
    stubborn) trap '' TERM INT HUP; echo stubborn; while :; do sleep 1; done ;;
    silent) exit 0 ;;
    liar) succeed; exit 3 ;;
    dies) kill -9 $$ ;;
    flood) head -c 30000000 /dev/zero | tr '\0' x; echo; yes noise | head -n 300000; succeed ;;
    forks) setsid sh -c 'trap "" TERM HUP; echo $$ > "$TEST_OUTPUTS_PATH/pid"; exec sleep 1000' &
           while [ ! -s "$TEST_OUTPUTS_PATH/pid" ]; do sleep 0.01; done; succeed ;;
    *) succeed ;;
esac
"""

GLOBAL = '[global]\nplan = "naughty"\ncase = "ok"\nbuilder = "exec:generic"\nrunner = "local:exec"\n'
GROUP = '[[groups]]\nid = "a"\ninstances = { count = 1 }\n'
HEAD = 'name = "broken"\n[builders."exec:generic"]\n[runners."local:exec"]\n'
CASE = '[[testcases]]\nname = "ok"\ninstances = { min = 1, max = 5 }\n'


def plan(home: Path, name: str = "naughty", manifest: str = MANIFEST) -> Path:
    directory = home / "plans" / name
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "manifest.toml").write_text(manifest)
    (directory / "run.sh").write_text(RUN)
    (directory / "run.sh").chmod(0o755)
    return directory


def single(case: str = "ok", *more: str, **changes: str) -> list[str]:
    flags = {"plan": "naughty", "testcase": case, "builder": "exec:generic", "runner": "local:exec", "instances": "1"}
    return ["run", "single", *(f"--{name}={value}" for name, value in (flags | changes).items()), "--wait", *more]


def refused(cli: CommandLine, *argv: str, status: int = 1) -> str:
    """The error of a command that must fail, leave no file behind, and show nothing of our insides."""
    before = sorted(os.listdir(cli.directory))
    done = cli(*argv)
    assert done.exit_code == status, done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "internal error" not in done.stdout
    assert sorted(os.listdir(cli.directory)) == before
    return done.stdout.strip().splitlines()[-1]


@pytest.fixture
def naughty(cli: CommandLine) -> CommandLine:
    """Commands with the daemon of the session, which has the plan."""
    plan(cli.home)
    return cli


@pytest.fixture
def lonely(tmp_path: Path) -> CommandLine:
    """Commands in a home of their own, without a daemon."""
    plan(tmp_path / "home")
    return command_line(tmp_path / "home", tmp_path)


@pytest.mark.parametrize(
    ("manifest", "text"),
    [
        (None, "failed to access plan manifest at {file}"),
        ('name = "broken"\n[builders."exec', "{file}: "),
        (b"\xff\xfe", "{file}: not UTF-8 (at line 1)"),
        (HEAD + '[[testcases]]\nname = "ok"\ninstances = 3', "{file}: testcases[0].instances: a table is needed"),
        (HEAD + "[[testcases]]\ninstances = { min = 'x' }", "{file}: testcases[0].instances.min: a whole number is"),
        (HEAD, "test case ok not found in plan broken"),
        (
            HEAD.replace("exec:generic", "exec:genric") + CASE,
            "does not support builder 'exec:generic'; supported: [exec:genric]",
        ),
        (HEAD.replace("local:exec", "local:exce") + CASE, "not support runner 'local:exec'; supported: [local:exce]"),
        (HEAD.replace('name = "broken"', "") + CASE, "the manifest has no name; review manifest.toml"),
    ],
)
def test_manifest(naughty: CommandLine, manifest: str | bytes | None, text: str) -> None:
    file = plan(naughty.home, "broken") / "manifest.toml"
    file.unlink()
    if manifest is not None:
        file.write_bytes(manifest.encode() if isinstance(manifest, str) else manifest)
    try:
        assert text.format(file=file) in refused(naughty, *single(plan="broken"))
    finally:
        shutil.rmtree(file.parent)


@pytest.mark.parametrize(
    ("composition", "text"),
    [
        (None, "c.toml: No such file or directory"),
        ("[global\n", "c.toml: Expected ']' at the end of a table declaration (at line 1, column 8)"),
        (
            GLOBAL + '[[groups]]\nid = "a"\ninstances = { count = -1 }',
            "c.toml: groups[0].instances.count: at least 0 is",
        ),
        (
            GLOBAL + '[[groups]]\nid = "a"\ninstances = { count = "x" }',
            "c.toml: groups[0].instances.count: a whole number",
        ),
        ("groups = 3\n" + GLOBAL, "c.toml: groups: a list is needed"),
        (
            GLOBAL + '\n# {{ splti .Env.ID }}\n[[groups]]\nid = "a"',
            "c.toml: failed to process composition template: function 'splti' not defined; did you mean 'split'? (at",
        ),
        (
            GLOBAL + '\n[[groups]]\nid = "a"\ninstances = { count = {{ .Env.NOT_SET_HERE }} }',
            "line 9 is 'instances = { count = <no value> }', which comes from line 9 of the file; <no value> stands",
        ),
        (GLOBAL, "Key: 'Composition.Groups' Error:Field validation for 'Groups' failed on the 'required' tag"),
        (GLOBAL + GROUP + GROUP, "group ids not unique; found duplicate: a"),
        (
            GLOBAL + '[[groups]]\nid = "../a"\ninstances = { count = 1 }',
            "group id '../a' cannot be the name of a directory",
        ),
        (GLOBAL + '[[groups]]\nid = "a"\ninstances = { percentage = 0.5 }', "requires a total_instance configuration"),
        (GLOBAL + GROUP + '[[runs]]\nid = "r"\ngroups = [{ id = "aa" }]', "non-existent group aa; did you mean 'a'?"),
        (GLOBAL + GROUP + '[groups.run.test_params]\nsize = "1|2"', "parameter 'size' of group 'a' contains '|'"),
        (GLOBAL + GROUP + '[groups.run.test_params]\n"si=ze" = "1"', "parameter 'si=ze' of group 'a' contains '='"),
        (GLOBAL + GROUP + '[groups.run.test_params]\n"" = "1"', "group 'a' has a parameter without a name"),
    ],
)
def test_composition(lonely: CommandLine, composition: str | None, text: str) -> None:
    if composition is not None:
        (lonely.directory / "c.toml").write_text(composition)
    assert text in refused(lonely, "run", "composition", "--file=c.toml", "--wait")


def test_places_that_are_not_there(lonely: CommandLine) -> None:
    """Found before the run, not after it."""
    (lonely.directory / "c.toml").write_text(GLOBAL + GROUP)
    run = ("run", "composition", "--file=c.toml", "--wait", "--collect")
    assert refused(lonely, *run, "--result-file=no/r.csv") == (
        "cannot write the result file no/r.csv: there is no directory no"
    )
    assert refused(lonely, *run, "-o", "c.toml/out") == (
        "cannot write the outputs c.toml/out: there is no directory c.toml"
    )
    assert "c.toml: Not a directory" in refused(lonely, "run", "composition", "--file=c.toml/c.toml")


@pytest.mark.parametrize("target", ["/etc", "nowhere", "../../plans"])
def test_links_out_of_the_plan(lonely: CommandLine, target: str) -> None:
    link = plan(lonely.home, "linked") / "link"
    link.symlink_to(target)
    text = refused(lonely, *single(plan="linked"))
    assert text.startswith(f"symlink {link} l") and f"it points to {target}" in text


def test_what_may_be_a_mistake_is_a_warning_with_the_nearest_name(naughty: CommandLine) -> None:
    plan(naughty.home, "odd", MANIFEST.replace("artifact =", "artefact = 1\nartifact =") + "[tescases]\n")
    text = GLOBAL.replace("naughty", "odd") + GROUP + "[groups.run.test_params]\nsise = '1=2'\n[[run]]\n"
    (naughty.directory / "c.toml").write_text(text)
    done = naughty("run", "composition", "--file=c.toml", "--wait")
    assert done.exit_code == 0
    for warning in (
        "c.toml: unknown key 'run'; did you mean 'runs'?",
        "manifest.toml: unknown key 'tescases'; did you mean 'testcases'?",
        "parameter 'sise' of group 'a' is not declared by test case ok; did you mean 'size'?",
        "the value of parameter 'sise' of group 'a' contains '=': sdk-go and sdk-js drop the parameter; plans on",
        "exec:generic: unknown option 'artefact'; did you mean 'artifact'?",
    ):
        assert done.log(warning), done.stdout


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (single(plan="nauhgty"), "did you mean 'naughty'?"),
        (single("okk"), "test case okk not found in plan naughty; did you mean 'ok'?"),
        (single(builder="exec:genric"), "incompatible with builder exec:genric; did you mean 'exec:generic'?"),
        (single(runner="local:exce"), "unknown runner: local:exce; did you mean 'local:exec'?"),
        (["describe", "--plan=nauhgty"], "did you mean 'naughty'?"),
        (["plan", "rm", "--yes", "--plan=nauhgty"], "there is no plan nauhgty; did you mean 'naughty'?"),
        (["healthcheck", "--runner=local:exce"], "unknown runner: local:exce; did you mean 'local:exec'?"),
        (["terminate", "--runner=local:exce"], "did you mean 'local:exec'?"),
        (["build", "purge", "--plan=naughty", "--builder=exec:genric"], "did you mean 'exec:generic'?"),
    ],
)
def test_unknown_names(naughty: CommandLine, argv: list[str], text: str) -> None:
    assert text in refused(naughty, *argv)


def test_unknown_commands_and_flags(lonely: CommandLine) -> None:
    assert refused(lonely, "rnu", status=3) == "No help topic for 'rnu'; did you mean 'run'?"
    assert "--plan" in refused(lonely, "describe", "--plna=x")


def test_unknown_runs_and_tasks(naughty: CommandLine) -> None:
    (naughty.directory / "c.toml").write_text(GLOBAL + GROUP)
    text = refused(naughty, "run", "composition", "--file=c.toml", "--run-ids=defalt")
    assert text == "unknown run id defalt; did you mean 'default'?"
    [known] = naughty(*single()).run_ids
    wrong = known[:8] + ("0" if known[8] != "0" else "1") + known[9:]
    for argv in (["status", "-t", wrong], ["logs", "-t", wrong], ["collect", wrong, "-r", "local:exec"]):
        assert f"task not found; did you mean '{known}'?" in refused(naughty, *argv)
        assert "task key must be a xid id" in refused(naughty, *(word.replace(wrong, "../x") for word in argv))


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (single(instances="0"), "total instance count (0) outside of allowable range [1, 5] for test case ok"),
        (single(instances="6"), "total instance count (6) outside of allowable range [1, 5] for test case ok"),
        (single(instances="-1"), "--instances"),
        (single(instances="x"), "--instances"),
        (single(instances="9" * 30), "instances: less than 9223372036854775808 is needed"),
        (single("ok", "--test-param=size"), "invalid key-value: size"),
        (single("ok", "--test-param=size=1|2"), "the value of parameter 'size' of group 'single' contains '|'"),
        (single("ok", "--test-param==1"), "group 'single' has a parameter without a name"),
        (single("ok", "--link-sdk=nosuch"), "failed to resolve linked SDK directory: no matching paths"),
        (single("ok", "--build-cfg=artifact=../x"), "artifact"),
        (
            single("ok", "--build-cfg=artifact=run.s"),
            "the build left no file 'run.s' in the plan directory; did you mean",
        ),
        (single("ok", "--build-cfg=build=5"), "build: "),
    ],
)
def test_values(naughty: CommandLine, argv: list[str], text: str) -> None:
    assert text in refused(naughty, *argv)


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ("[daemon\n", "found .env.toml at {file}, but failed to parse: "),
        ("[daemon]\nlisten = 5", "{file}: daemon.listen: a string is needed"),
        ("[daemon]\nlisten = 'x'", "daemon.listen: 'x' is not an address; write HOST:PORT, such as localhost:8042"),
        ("[daemon]\ntokens = 'x'", "{file}: daemon.tokens: a list is needed"),
        ("[daemon.scheduler]\nworkers = 0", "{file}: daemon.scheduler.workers: at least 1 is needed"),
    ],
)
def test_configuration(lonely: CommandLine, config: str, text: str) -> None:
    file = lonely.home / ".env.toml"
    file.write_text(config)
    assert text.format(file=file) in refused(lonely, "daemon")


def test_a_home_that_cannot_be_one(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    lonely = command_line(tmp_path / "file", tmp_path)
    assert refused(lonely, "plan", "list") == f"cannot create the home directory {tmp_path}/file: Not a directory"


def test_a_daemon_that_is_none(lonely: CommandLine) -> None:
    with foreign_server() as port:
        text = refused(lonely, f"--endpoint=http://127.0.0.1:{port}", *single())
        assert text.endswith(f"is http://127.0.0.1:{port} a testground daemon?")
    text = refused(lonely, f"--endpoint=http://127.0.0.1:{port}", *single("ok", "--collect"))
    assert text.startswith(f"no daemon answers at http://127.0.0.1:{port} (")
    assert text.endswith("; start one with `testground daemon`, or name another with --endpoint")
    assert "is not a URL such as http://localhost:8042" in refused(lonely, "--endpoint=localhost", "tasks")


@contextlib.contextmanager
def foreign_server() -> Iterator[int]:
    """The port of a web server that answers every request, with a page."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.do_GET()

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"<hi>")

        def log_message(self, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def strict(lonely: CommandLine) -> Iterator[tuple[CommandLine, Daemon]]:
    """A daemon with a token, one worker, a queue for one, and little room."""
    with started(
        lonely.home, 'tokens = ["right"]\nmax_upload_mb = 1\n[daemon.scheduler]\nworkers = 1\nqueue_size = 1'
    ) as daemon:
        yield lonely, daemon


def test_what_a_strict_daemon_refuses(strict: tuple[CommandLine, Daemon]) -> None:
    cli, daemon = strict
    for token in ("", '[client]\ntoken = "wrong"\n'):
        daemon.configure(token)
        assert refused(cli, "tasks") == "unexpected status code received: 403 Forbidden"
        assert "set client.token in .env.toml to one of its daemon.tokens" in cli("tasks").stderr
    daemon.configure('[client]\ntoken = "right"\n')
    (plan(cli.home, "large") / "noise").write_bytes(os.urandom(3 << 20))
    assert "the upload is larger than the allowed 1 MiB (daemon.max_upload_mb)" in refused(cli, *single(plan="large"))
    queued = [cli(*single("hang")[:-1]) for _ in range(2)]  # without --wait
    assert [done.exit_code for done in queued] == [0, 0]
    assert refused(cli, *single()) == "engine run error: queue full: daemon.scheduler.queue_size = 1 is reached"
    assert len(os.listdir(cli.home / "data/work/requests")) == 2
    for _ in queued:
        assert cli("terminate", "--runner=local:exec").exit_code == 0


def test_a_daemon_killed_in_the_middle_of_its_answer(lonely: CommandLine) -> None:
    with started(lonely.home) as daemon:
        run = start(lonely, *single("hang", "--collect"))
        run.read_until("hanging")
        daemon.process.kill()
        done = run.finish()
    assert done.exit_code == 1
    assert done.stdout.splitlines()[-1].startswith("unexpected EOF: the daemon at http://localhost:")
    assert done.stdout.endswith("went away in the middle of its answer; was it killed?\n")
    assert not list(lonely.directory.glob("*.tgz"))
    text = lonely("tasks").log(done.run_ids[0])[0]
    assert "canceled" in text


def test_a_full_disk(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(home)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a small file system")
    try:
        large = plan(tmp_path, "large")
        (large / "noise").write_bytes(os.urandom(4 << 20))
        (home / "plans").mkdir()
        (home / "plans" / "large").symlink_to(large)
        cli = command_line(home, tmp_path)
        assert "cannot store the upload: no space left on device" in refused(cli, *single(plan="large"))
        (large / "noise").write_bytes(bytes(4 << 20))
        assert "plan.zip: cannot unpack 'noise': no space left on device" in refused(cli, *single(plan="large"))
        assert os.listdir(home / "data/work/requests") == []
        (large / "noise").unlink()
        assert cli(*single(plan="large")).exit_code == 0
    finally:
        subprocess.run(["umount", home], check=True)


@pytest.mark.parametrize(
    ("case", "reason"),
    [
        ("silent", "exited without reporting an outcome (exit code 0)"),
        ("liar", "reported success, then exited with code 3"),
        ("dies", "was killed by SIGKILL before reporting an outcome"),
    ],
)
def test_a_plan_that_is_no_success(naughty: CommandLine, case: str, reason: str) -> None:
    done = naughty(*single(case, instances="2"))
    assert (done.exit_code, done.stderr) == (1, 'run "default" failed\n')
    [line] = done.log("first failure: ")
    assert line.endswith(reason)
    assert done.log("run finished with outcome = failure (single:0/2)")


def test_a_plan_that_floods_stdout(naughty: CommandLine) -> None:
    done = naughty(*single("flood", "--collect", "--collect-file=flood"))
    assert done.exit_code == 0
    assert len(done.stdout) < 2 << 20
    assert done.log("from here on")
    assert len(naughty.collected("flood").named("run.out")["single/0"]) > 30_000_000


def test_a_plan_that_forks_leaves_nothing(naughty: CommandLine) -> None:
    done = naughty(*single("forks", "--collect", "--collect-file=forks"))
    assert done.exit_code == 0
    [pid] = naughty.collected("forks").named("pid").values()
    state = subprocess.run(["ps", "-o", "stat=", "-p", pid.strip()], capture_output=True, text=True).stdout
    assert state == "" or state.startswith("Z"), state  # a zombie waits for the system's init only


def test_a_plan_that_ignores_sigterm(lonely: CommandLine) -> None:
    with started(lonely.home):
        run = start(lonely, *single("stubborn", instances="2"))
        run.read_until("stubborn")
        assert lonely("terminate", "--runner=local:exec").exit_code == 0
        done = run.finish()
    assert done.exit_code == 1
    assert done.log("run finished with outcome = canceled (single:0/2)")
    assert "was still running when the run was ended: terminated by request" in done.log("first failure")[0]
