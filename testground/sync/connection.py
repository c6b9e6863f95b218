"""One websocket of the server, above the parsing of frames: limits, fairness, writing and closing (contract §3.1).

Replies are gathered and written at the end of the event loop's turn, so that a message to a thousand subscribers, or a
thousand replies to one, cost one write per connection. A client that sends faster than its share is read later, and
what comes for one that is slow to read waits in the topics; one that asks and asks and does not read the replies is
dropped. None of them holds up the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from functools import partial

from testground.sync.service import Member, Service
from testground.sync.wire import MAX_MESSAGE, WireError

TURN = 64
"""Messages handled in one turn of the event loop, of one connection or of all that flood, before others have theirs."""

HIGH_WATER = 256 * 1024
"""Unsent bytes from which on messages of topics wait."""

MAX_BACKLOG = 16 << 20
"""Unsent bytes for which a connection is dropped."""

CLOSE_DEADLINE = 5.0
"""Seconds for the other side to finish a close."""

TEXT, CLOSE, PONG = 0x81, 0x88, 0x8A
"""First bytes of unfragmented frames."""

logger = logging.getLogger("testground.sync")


class Turns:
    """What the connections of a server do together, once in each turn of the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._unsent: list[Connection] = []
        self._unread: deque[Connection] = deque()

    def add_unsent(self, connection: Connection) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(connection)

    def add_unread(self, connection: Connection) -> None:
        if not self._unread:
            self._loop.call_soon(self._work)
        self._unread.append(connection)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        for connection in unsent:
            connection.flush()

    def _work(self) -> None:
        share = max(1, TURN // len(self._unread))
        for _ in range(len(self._unread)):
            connection = self._unread.popleft()
            if connection.work(share):
                self._unread.append(connection)
        if self._unread:
            self._loop.call_soon(self._work)


class Connection:
    """`deaf`: messages are not heeded any more; `mute`: nothing is written any more."""

    def __init__(self, turns: Turns, transport: asyncio.Transport, service: Service, member: Member | None) -> None:
        self.member = member
        self._turns = turns
        self._transport = transport
        self._session = service.open(self.send, member)
        self._queue: list[bytes] = []
        self._inbox: deque[Callable[[], None]] | None = None
        self._fragments = bytearray()
        self._handled = 0
        self._congested = False
        self._in_parts = False
        self._deaf = False
        self._mute = False
        self._close_timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(HIGH_WATER)
        _acknowledge_at_once(transport)

    def __str__(self) -> str:
        host, port, *_ = self._transport.get_extra_info("peername") or ("an address", "unknown")
        return f"{self.member or 'a client'} at {host}:{port}"

    def receive(self, message: bytes, *, binary: bool, more: bool) -> None:
        """`more`: another frame was read together with this one."""
        if self._inbox is not None:
            self._inbox.append(partial(self._handle, message, binary))
        elif more and self._handled >= TURN:
            self._put_off(partial(self._handle, message, binary))
        else:
            self._handled = self._handled + 1 if more else 0
            self._handle(message, binary)

    def receive_fragment(self, part: bytes, *, binary: bool, last: bool, more: bool) -> None:
        self._fragments += part
        if last or len(self._fragments) > MAX_MESSAGE:
            message = bytes(self._fragments)
            self._fragments.clear()
            self.receive(message, binary=binary, more=more)

    def receive_ping(self, payload: bytes) -> None:
        if not self._mute:
            self.flush()
            self._transport.write(_frame(PONG, payload))
            self._check_backlog()

    def receive_close(self, payload: bytes) -> None:
        """Answer at once with the same code and text, after the replies to what came before (contract §3.1)."""
        if self._inbox is not None:
            self._inbox.append(partial(self._end, payload))
        else:
            self._end(payload)

    def lost(self) -> None:
        """The socket is gone. What was read before is carried out all the same."""
        self._mute = True
        if self._close_timer is not None:
            self._close_timer.cancel()
        if self._inbox is not None:
            self._inbox.append(self._session.close)
        else:
            self._session.close()

    def pause_writing(self) -> None:
        self._congested = True
        self._session.pause()

    def resume_writing(self) -> None:
        self._congested = False
        if self._session.replaying:
            self._session.replay()

    def send(self, reply: bytes) -> None:
        if not self._queue:
            self._turns.add_unsent(self)
        self._queue.append(reply)

    def flush(self) -> None:
        """Write what there is; then go on with earlier messages, unless the client is behind with reading."""
        queue, self._queue = self._queue, []
        if self._mute or not queue:
            return
        self._transport.write(b"".join([_frame(TEXT, reply) for reply in queue]))
        if self._in_parts:
            _acknowledge_at_once(self._transport)
        if self._congested:
            self._check_backlog()
        elif self._session.replaying:
            self._session.replay()

    def work(self, share: int) -> bool:
        """Handle some of what was put off. Returns whether there is more."""
        assert self._inbox is not None
        for _ in range(min(share, len(self._inbox))):
            self._inbox.popleft()()
        if self._inbox:
            return True
        self._inbox = None
        if not self._transport.is_closing():
            self._transport.resume_reading()
        return False

    def fail(self, code: int, reason: str) -> None:
        """Close from our side, and leave the client time to answer. It waits for nothing any more."""
        self._say_goodbye(code.to_bytes(2, "big") + reason.encode())
        self._session.close()

    def abort(self) -> None:
        self._transport.abort()

    def _handle(self, message: bytes, binary: bool) -> None:
        if self._deaf:
            return
        self._in_parts = binary  # only sdk-rust sends these, and a frame's head apart from its payload
        try:
            if len(message) > MAX_MESSAGE:
                raise WireError(1009, f"read limited at {MAX_MESSAGE + 1} bytes")
            self._session.receive(message, binary=binary)
        except WireError as error:
            logger.warning("closing the connection of %s: %s", self, error.reason)
            self.fail(error.code, error.reason)
        except Exception:
            # One connection's trouble is not the others': their turn comes after this one in the same callback.
            logger.exception("closing the connection of %s", self)
            self.fail(1011, "internal error")

    def _put_off(self, task: Callable[[], None]) -> None:
        """Stop reading until the messages that have been read were handled, a few per turn."""
        self._inbox = deque([task])
        self._handled = 0
        self._transport.pause_reading()
        self._turns.add_unread(self)

    def _end(self, payload: bytes) -> None:
        self._say_goodbye(payload)
        self._session.close()
        self._transport.close()

    def _say_goodbye(self, payload: bytes) -> None:
        self._deaf = True
        if self._mute:
            return
        self.flush()
        self._mute = True
        self._transport.write(_frame(CLOSE, payload))
        self._close_timer = asyncio.get_running_loop().call_later(CLOSE_DEADLINE, self.abort)

    def _check_backlog(self) -> None:
        if self._transport.get_write_buffer_size() > MAX_BACKLOG:
            logger.warning("dropping %s: it does not read, and %d MiB wait for it", self, MAX_BACKLOG >> 20)
            self._deaf = self._mute = True
            self.abort()


def _acknowledge_at_once(transport: asyncio.Transport) -> None:
    """Spare the sender of a frame in two parts 40 ms: it sends the second when the first is acknowledged (Nagle).

    The system goes back to late acknowledgements whenever we write.
    """
    if hasattr(socket, "TCP_QUICKACK"):
        with contextlib.suppress(OSError):
            transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)


def _frame(first: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return b"%c%c%b" % (first, size, payload)
    return b"%c\x7e%b%b" % (first, size.to_bytes(2, "big"), payload)
