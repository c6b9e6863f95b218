"""The first process of user-mode Linux: loads modules, runs a script, writes down what it reports, switches off."""

import ctypes
import json
import os
import runpy
import sys
import traceback

CHECKOUT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
POWER_OFF = 0x4321FEDC
FINIT_MODULE = 313

libc = ctypes.CDLL(None, use_errno=True)


def main() -> None:
    with open(sys.argv[1]) as file:
        order = json.load(file)
    os.environ["PATH"] = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    mount("proc", "/proc")
    load(os.path.join(order["directory"], os.uname().release), order["modules"])
    sys.path.insert(0, CHECKOUT)
    reported = runpy.run_path(order["script"])["report"](**order["arguments"])
    with open(order["result"] + ".part", "w") as file:
        json.dump(reported, file)
    os.rename(order["result"] + ".part", order["result"])


def mount(kind: str, target: str) -> None:
    checked(libc.mount(kind.encode(), target.encode(), kind.encode(), 0, None), f"mount {target}")


def load(directory: str, names: list[str]) -> None:
    """Modules with all that they need."""
    needs = {}
    with open(os.path.join(directory, "modules.dep")) as file:
        for line in file:
            path, _, needed = line.partition(":")
            needs[os.path.basename(path).removesuffix(".ko")] = [*reversed(needed.split()), path]
    loaded = set()
    for path in [path for name in names for path in needs[name]]:
        if path in loaded:
            continue
        loaded.add(path)
        descriptor = os.open(os.path.join(directory, path), os.O_RDONLY)
        checked(libc.syscall(FINIT_MODULE, descriptor, b"", 0), f"load {path}")
        os.close(descriptor)


def checked(result: int, what: str) -> None:
    if result:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc()
        sys.stderr.flush()
    libc.reboot(POWER_OFF)
