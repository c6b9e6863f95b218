"""What the kernel is told and tells about networks, in bytes. The only file that knows pyroute2, which does the work.

Importing that takes longer than an instance may wait for a change: the sidecar's process does it before it makes its
hub.
"""

from __future__ import annotations

import sys
from typing import Any, ClassVar

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, rtnl
from pyroute2.netlink.rtnl import ifaddrmsg, ifinfmsg, ndmsg
from pyroute2.netlink.rtnl.fibmsg import FR_ACT_TO_TBL, FR_ACT_UNREACHABLE, fibmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import sched_htb, sched_netem, tcmsg

REQUEST, ACK, DUMP = NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP
CREATE, EXCLUSIVE, REPLACE = NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE

NEW_LINK, GET_LINK = rtnl.RTM_NEWLINK, rtnl.RTM_GETLINK
NEW_ADDRESS, DELETE_ADDRESS = rtnl.RTM_NEWADDR, rtnl.RTM_DELADDR
NEW_ROUTE, DELETE_ROUTE, GET_ROUTE = rtnl.RTM_NEWROUTE, rtnl.RTM_DELROUTE, rtnl.RTM_GETROUTE
NEW_NEIGHBOUR, DELETE_NEIGHBOUR = rtnl.RTM_NEWNEIGH, rtnl.RTM_DELNEIGH
NEW_RULE = rtnl.RTM_NEWRULE
NEW_QUEUE = rtnl.RTM_NEWQDISC
NEW_CLASS, DELETE_CLASS = rtnl.RTM_NEWTCLASS, rtnl.RTM_DELTCLASS
NEW_FILTER, DELETE_FILTER = rtnl.RTM_NEWTFILTER, rtnl.RTM_DELTFILTER

UP = ifinfmsg.IFF_UP
NO_DUPLICATE_DETECTION, NO_ROUTE = ifaddrmsg.IFA_F_NODAD, ifaddrmsg.IFA_F_NOPREFIXROUTE
PERMANENT, FIXED, OF_THE_BRIDGE = ndmsg.NUD_PERMANENT, ndmsg.NUD_NOARP, ndmsg.NTF_MASTER
MAIN_TABLE = 254
STATIC = rtnl.rt_proto["static"]
ANYWHERE, ON_LINK = rtnl.rt_scope["universe"], rtnl.rt_scope["link"]
"""How far a route leads."""
UNICAST, BLACKHOLE, PROHIBIT, THROW = (rtnl.rt_type[kind] for kind in ("unicast", "blackhole", "prohibit", "throw"))
TO_TABLE, UNREACHABLE = FR_ACT_TO_TBL, FR_ACT_UNREACHABLE
"""What rules do."""
ROOT = rtnl.TC_H_ROOT


class _Netem(sched_netem.options):  # type: ignore[misc]
    """With the members that pyroute2 lacks."""

    nla_map: ClassVar = (
        *sched_netem.options.nla_map,
        ("TCA_NETEM_ECN", "uint32"),
        ("TCA_NETEM_RATE64", "uint64"),
        ("TCA_NETEM_PAD", "hex"),
        ("TCA_NETEM_LATENCY64", "int64"),
        ("TCA_NETEM_JITTER64", "int64"),
    )


class _Htb(sched_htb.options):  # type: ignore[misc]
    class htb_parms(sched_htb.options.htb_parms):  # type: ignore[misc]
        def calc_rtab(self, kind: str) -> list[float]:
            """No table: it takes longer than all the rest, and the kernel makes its own."""
            return []


class _Traffic(tcmsg):  # type: ignore[misc]
    @staticmethod
    def get_options(message: Any, *args: Any, **kwargs: Any) -> Any:
        known = {"netem": _Netem, "htb": _Htb}.get(message.get_attr("TCA_KIND"))
        return known or tcmsg.get_options(message, *args, **kwargs)


_OBJECTS = {
    **dict.fromkeys((NEW_LINK, GET_LINK), ifinfmsg.ifinfmsg),
    **dict.fromkeys((NEW_ADDRESS, DELETE_ADDRESS), ifaddrmsg.ifaddrmsg),
    **dict.fromkeys((NEW_ROUTE, DELETE_ROUTE, GET_ROUTE), rtmsg),
    **dict.fromkeys((NEW_NEIGHBOUR, DELETE_NEIGHBOUR), ndmsg.ndmsg),
    NEW_RULE: fibmsg,
    **dict.fromkeys((NEW_QUEUE, NEW_CLASS, DELETE_CLASS, NEW_FILTER, DELETE_FILTER), _Traffic),
}


def encode(kind: int, flags: int = 0, /, **fields: Any) -> bytes:
    """A message about an object with these fields, of which `attrs` are a list of pairs. Names are pyroute2's."""
    message = _OBJECTS[kind]()
    for name, value in fields.items():
        message[name] = value
    message["header"]["type"] = kind
    message["header"]["flags"] = flags
    message.encode()
    return bytes(message.data)


def decode(data: bytes) -> Any:
    """What a message tells: fields by index, attributes by `get_attr`, for one that is not there None."""
    kind = int.from_bytes(data[4:6], sys.byteorder)
    message = _OBJECTS[kind](data)
    message.decode()
    return message
