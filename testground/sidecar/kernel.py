"""Parts of the kernel that shaped links need, and what is said where one is missing."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from testground.errors import NetworkError

MODULES = Path("/lib/modules")

_NOT_THERE = (errno.ENOENT, errno.EOPNOTSUPP)


@dataclass(frozen=True, slots=True)
class Part:
    name: str
    option: str
    """With which kernels are built that have it, without `CONFIG_`."""
    module: str
    """Where it is not built in. Kernels load modules by themselves, but some only if root asks for them."""

    def explain(self, error: OSError, wish: str) -> OSError | NetworkError:
        """The error of a request that needs the part, in words, if the kernel does not have it."""
        if error.errno not in _NOT_THERE:
            return error
        if self._can_be_loaded():
            return NetworkError(
                f"this kernel has not loaded {self.name} (CONFIG_{self.option}), which {wish} would need: "
                f"run 'modprobe {self.module}' as root"
            )
        return NetworkError(f"this kernel has no {self.name} (CONFIG_{self.option}), which {wish} would need")

    def _can_be_loaded(self) -> bool:
        try:
            known = MODULES.joinpath(os.uname().release, "modules.dep").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return f"/{self.module}.ko" in known


HTB = Part("HTB", "NET_SCH_HTB", "sch_htb")
NETEM = Part("netem", "NET_SCH_NETEM", "sch_netem")
U32 = Part("u32 classifier", "NET_CLS_U32", "cls_u32")
