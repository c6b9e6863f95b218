"""What is said where the kernel lacks a part that a shape needs."""

from __future__ import annotations

import errno
import os

import pytest

from testground.errors import NetworkError
from testground.sidecar import kernel


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """The file that lists the kernel's modules."""
    monkeypatch.setattr(kernel, "MODULES", tmp_path)
    tmp_path.joinpath(os.uname().release).mkdir()
    return tmp_path / os.uname().release / "modules.dep"


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EOPNOTSUPP])
def test_a_kernel_without_netem_needs_an_option(modules, number):
    modules.write_text("kernel/net/sched/sch_htb.ko.zst:\n")
    said = kernel.NETEM.explain(OSError(number, "x"), "latency")
    assert isinstance(said, NetworkError)
    assert str(said) == "this kernel has no netem (CONFIG_NET_SCH_NETEM), which latency would need"


@pytest.mark.parametrize(
    ("part", "names"),
    [
        (kernel.NETEM, ("netem (CONFIG_NET_SCH_NETEM)", "modprobe sch_netem")),
        (kernel.HTB, ("HTB (CONFIG_NET_SCH_HTB)", "modprobe sch_htb")),
        (kernel.U32, ("u32 classifier (CONFIG_NET_CLS_U32)", "modprobe cls_u32")),
    ],
)
def test_a_part_that_is_not_loaded_can_be(modules, part, names):
    """Kernels that load modules for root only do so for no run of an ordinary user."""
    modules.write_text("".join(f"kernel/net/sched/{name}.ko.xz: x\n" for name in ("sch_netem", "sch_htb", "cls_u32")))
    said = str(part.explain(OSError(errno.ENOENT, "x"), "it"))
    assert said == f"this kernel has not loaded {names[0]}, which it would need: run '{names[1]}' as root"


def test_other_errors_are_what_they_are(modules):
    error = OSError(errno.EINVAL, "x")
    assert kernel.NETEM.explain(error, "latency") is error
