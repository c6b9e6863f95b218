"""Started by `client`, with the descriptor of its connection and the number of instances. Not meant for people."""

from __future__ import annotations

import contextlib
import resource
import signal
import socket
import sys

from testground.drivers import launcher
from testground.sidecar import server
from testground.sidecar.topology import TopologyError

SYNC_PORT, REDIS_PORT = 5050, 6379


def main(descriptor: int, instances: int) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # it ends with its run
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    connection = socket.socket(fileno=descriptor)
    try:
        hub, user = server.open_hub(instances)
        listeners = [hub.listen(port) for port in (SYNC_PORT, REDIS_PORT)]
    except launcher.Failed as error:
        server.say(connection, {"refused": server.refused(error)}, [])
        return
    except (TopologyError, OSError) as error:
        server.say(connection, {"error": str(error)}, [])
        return
    descriptors = [*(listener.fileno() for listener in listeners), hub.netns, *([user] if user is not None else [])]
    server.say(connection, {}, descriptors)
    for listener in listeners:
        listener.close()
    with contextlib.suppress(ConnectionError):  # the daemon is gone
        server.Server(connection, hub).serve()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
