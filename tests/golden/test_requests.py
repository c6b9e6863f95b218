"""Requests of client-daemon §8.4 and §8.5: what `single` makes, and how it is packed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

from testground.api import rpc
from testground.api.composition import Dependency
from testground.api.manifest import Manifest
from testground.api.task import CreatedBy
from testground.plan import composition, prepare, sources

BUILD: dict[str, Any] = {
    "priority": 1,
    "composition": {
        "metadata": {"name": "", "author": ""},
        "global": {
            "plan": "demo",
            "case": "",
            "total_instances": 0,
            "concurrent_builds": 0,
            "builder": "exec:go",
            "build_config": {},
            "build": None,
            "runner": "",
            "run_config": {},
            "run": None,
            "disable_metrics": False,
        },
        "groups": [
            {
                "id": "single",
                "builder": "exec:go",
                "build_config": {"enabled": True},
                "build": {"selectors": None, "dependencies": []},
                "resources": {"memory": "", "cpu": ""},
                "instances": {"count": 0, "percentage": 0},
                "run": {"artifact": "", "test_params": {}, "profiles": None},
            }
        ],
        "runs": [
            {
                "id": "default",
                "test_params": None,
                "total_instances": 0,
                "groups": [
                    {
                        "id": "single",
                        "group_id": "single",
                        "resources": {"memory": "", "cpu": ""},
                        "instances": {"count": 0, "percentage": 0},
                        "test_params": {},
                        "profiles": None,
                    }
                ],
            }
        ],
    },
    "manifest": {
        "Name": "demo",
        "Builders": {"exec:go": {"enabled": True}},
        "Runners": {"local:exec": {"enabled": True}},
        "TestCases": [
            {
                "Name": "ok",
                "Instances": {"Minimum": 1, "Maximum": 5},
                "Parameters": {"b": {"Type": "string", "Description": "", "Unit": "", "Default": None}},
            }
        ],
        "ExtraSources": None,
    },
    "created_by": {"user": "me"},
}

RUN_COMPOSITION: dict[str, Any] = {
    "metadata": {"name": "", "author": ""},
    "global": {
        "plan": "suite/demo",
        "case": "ok",
        "total_instances": 2,
        "concurrent_builds": 0,
        "builder": "docker:go",
        "build_config": {"enabled": True},
        "build": None,
        "runner": "local:docker",
        "run_config": {"log_level": "debug"},
        "run": None,
        "disable_metrics": False,
    },
    "groups": [
        {
            "id": "single",
            "builder": "",
            "build_config": None,
            "build": {
                "selectors": None,
                "dependencies": [{"module": "github.com/x/y", "target": "github.com/z/y", "version": "v1.2.3"}],
            },
            "resources": {"memory": "", "cpu": ""},
            "instances": {"count": 2, "percentage": 0},
            "run": {"artifact": "", "test_params": {"a": "1"}, "profiles": None},
        }
    ],
    "runs": [
        {
            "id": "default",
            "test_params": None,
            "total_instances": 2,
            "groups": [
                {
                    "id": "single",
                    "group_id": "single",
                    "resources": {"memory": "", "cpu": ""},
                    "instances": {"count": 2, "percentage": 0},
                    "test_params": {"a": "1"},
                    "profiles": None,
                }
            ],
        }
    ],
}


def test_8_4_build_single_request() -> None:
    manifest = Manifest.model_validate(BUILD["manifest"])
    made = prepare.prepare_for_build(composition.single(plan="suite/demo", builder="exec:go"), manifest)
    request = rpc.BuildRequest(priority=1, composition=made, manifest=manifest, created_by=CreatedBy(user="me"))
    wire = request.wire()
    assert wire == BUILD
    assert list(wire) == list(BUILD)
    assert list(wire["composition"]["global"]) == list(BUILD["composition"]["global"])


def test_8_5_run_single_composition() -> None:
    made = composition.single(
        plan="suite/demo",
        case="ok",
        builder="docker:go",
        runner="local:docker",
        instances=2,
        build_config={"enabled": True},
        run_config={"log_level": "debug"},
        dependencies=[Dependency(module="github.com/x/y", target="github.com/z/y", version="v1.2.3")],
        test_params={"a": "1"},
    )
    assert made.wire() == RUN_COMPOSITION


def test_8_4_the_body_byte_for_byte(tmp_path: Path) -> None:
    plan = tmp_path / "plan"
    (plan / "sub").mkdir(parents=True)
    for name in (".hidden", ".testgroundignore", "main.go", "manifest.toml", "sub/y.txt"):
        (plan / name).write_text(name if name != ".testgroundignore" else "*.out\n")
    (plan / "z.out").write_text("ignored")
    text = json.dumps(BUILD).encode()
    with sources.pack(text, plan) as upload:
        body = b"".join(upload)
    assert upload.content_length == len(body)
    kind, _, boundary = upload.content_type.partition("; boundary=")
    assert kind == "multipart/related"
    assert len(boundary) == 60
    assert int(boundary, 16)
    mark = f"--{boundary}".encode()
    json_head = (
        b"\r\nContent-Disposition: attachment; filename=composition.json\r\nContent-Type: application/json\r\n\r\n"
    )
    zip_head = b"\r\nContent-Disposition: attachment; filename=plan.zip\r\nContent-Type: application/zip\r\n\r\n"
    start = mark + json_head + text + b"\n\r\n" + mark + zip_head
    end = b"\r\n" + mark + b"--\r\n"
    assert body.startswith(start)
    assert body.endswith(end)
    with zipfile.ZipFile(io.BytesIO(body[len(start) : -len(end)])) as archive:
        assert archive.namelist() == [".hidden", ".testgroundignore", "main.go", "manifest.toml", "sub/", "sub/y.txt"]


def test_8_5_the_order_of_all_four_parts(tmp_path: Path) -> None:
    for name in ("plan", "sdk", "shared"):
        (tmp_path / name).mkdir()
    (tmp_path / "sdk" / "q.txt").write_text("q")
    (tmp_path / "shared" / "x.txt").write_text("x")
    with sources.pack(b"{}", tmp_path / "plan", tmp_path / "sdk", [tmp_path / "shared"]) as upload:
        body = b"".join(upload)
    places = [
        body.index(f"filename={name}".encode()) for name in ("composition.json", "plan.zip", "sdk.zip", "extra.zip")
    ]
    assert places == sorted(places)
    assert b"shared/x.txt" in body
