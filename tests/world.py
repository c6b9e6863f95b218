"""A world of its own for a program: a network namespace with what it takes for the internet.

    python world.py DIRECTORY PROGRAM [ARGUMENT]...

The program is who starts this, root or an ordinary user, and has no more rights than before.
"""

from __future__ import annotations

import http.server
import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
from ipaddress import IPv4Interface
from pathlib import Path

CHECKOUT = Path(__file__).parents[1]
sys.path.insert(0, str(CHECKOUT))

from testground.drivers import launcher  # noqa: E402
from testground.sidecar import layout  # noqa: E402

NAMESERVER, WEB, DATABASE = "203.0.113.53", "203.0.113.7", "203.0.113.9"
PAGE = "https://page.example/"
NAMES = {
    "page.example": WEB,
    # where the network plan of the original looks
    "bafybeicg2rebjoofv4kbyovkw7af3rpiitvnl6i7ckcywaq6xjcxnc2mby.ipfs.dweb.link": WEB,
    "database.example": DATABASE,
    "inside.example": "16.0.0.9",
}
HELLO = b"hello world\n"
PORT = 8000
"""Of plain HTTP, at all addresses."""

_A = 1
_NO_ERROR, _NO_SUCH_NAME = 0x8180, 0x8183


def main(directory: Path, program: list[str]) -> int:
    certificate = _certificate(directory)
    _enter()
    channel = layout.Channel()
    hosts = [IPv4Interface(address) for address in (NAMESERVER, WEB, DATABASE)]
    channel.carry_out([layout.up(1), *(layout.address(1, host) for host in hosts)])
    resolver = directory / "resolv.conf"
    resolver.write_text(f"nameserver {NAMESERVER}\noptions edns0\n")
    launcher.mount(str(resolver), "/etc/resolv.conf", launcher.MS_BIND)
    names = socket.socket(type=socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", 53))
    secure = Server((WEB, 443), Hello)
    secure.socket = certificate.wrap_socket(secure.socket, server_side=True)
    plain = Server(("0.0.0.0", PORT), Hello)
    for serve, *arguments in ((answer, names), (secure.serve_forever,), (plain.serve_forever,)):
        threading.Thread(target=serve, args=arguments, daemon=True).start()
    return subprocess.run(program, check=False).returncode


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1000  # the default of five makes some of many clients wait for a second


class Hello(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(HELLO)))
        self.end_headers()
        self.wfile.write(HELLO)

    def log_message(self, format: str, *args: object) -> None:
        """Nobody reads it."""


def answer(server: socket.socket) -> None:
    """Questions for addresses, as long as the process lives."""
    while True:
        question, whence = server.recvfrom(4096)
        server.sendto(_answered(question), whence)


def _answered(question: bytes) -> bytes:
    at, labels = 12, []
    while size := question[at]:
        labels.append(question[at + 1 : at + 1 + size].decode())
        at += 1 + size
    end = at + 5
    (kind,) = struct.unpack_from(">H", question, at + 1)
    address = NAMES.get(".".join(labels).lower())
    found = address is not None and kind == _A
    head = struct.pack(">HHHHH", _NO_ERROR if address else _NO_SUCH_NAME, 1, int(found), 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, _A, 1, 60, 4) + socket.inet_aton(address) if address and found else b""
    return question[:2] + head + question[12:end] + record


def _enter() -> None:
    flags = launcher.CLONE_NEWNET | launcher.CLONE_NEWNS
    try:
        launcher.unshare("a network namespace", flags)
    except launcher.Failed:
        launcher.own_user_namespace(flags)
    launcher.mount("none", "/", launcher.MS_REC | launcher.MS_PRIVATE)


def _certificate(directory: Path) -> ssl.SSLContext:
    """A new one that nobody has a reason to trust."""
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-subj", "/CN=page.example", "-days", "2", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    os.umask(0o022)
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
