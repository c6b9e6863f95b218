"""Templates as trees. `offset` is the place in the text, for errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Dot:
    offset: int


@dataclass(frozen=True, slots=True)
class Nil:
    offset: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A string, number, character or bool. `problem` is why it has no value, which matters only when it is used."""

    offset: int
    text: str
    value: Any
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Variable:
    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Word:
    """The name of a function."""

    offset: int
    name: str


@dataclass(frozen=True, slots=True)
class Chain:
    """Fields of what stands before them: `.a.b`, `$x.a`, `(index .groups 1).id`"""

    offset: int
    operand: Operand
    names: Sequence[str]


@dataclass(frozen=True, slots=True)
class Pipe:
    """`$x, $y := command | command`"""

    offset: int
    commands: Sequence[Sequence[Operand]]
    variables: Sequence[str] = ()
    assigns: bool = False
    """`=` rather than `:=`."""


Operand = Dot | Nil | Literal | Variable | Word | Chain | Pipe


@dataclass(frozen=True, slots=True)
class Text:
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class Action:
    offset: int
    pipe: Pipe


@dataclass(frozen=True, slots=True)
class Branch:
    """`if` and `with`, which makes the value the dot of its body."""

    offset: int
    pipe: Pipe
    body: Sequence[Node]
    otherwise: Sequence[Node]
    moves_dot: bool


@dataclass(frozen=True, slots=True)
class Range:
    offset: int
    pipe: Pipe
    body: Sequence[Node]
    otherwise: Sequence[Node]


@dataclass(frozen=True, slots=True)
class Call:
    """`template "name" pipe`"""

    offset: int
    name: str
    pipe: Pipe | None


@dataclass(frozen=True, slots=True)
class Leave:
    """`break`, or `continue`."""

    offset: int
    for_good: bool


Node = Text | Action | Branch | Range | Call | Leave


Templates = dict[str, Sequence[Node]]
"""The bodies by name. The file itself is the one with the name `ROOT`."""

ROOT = "tpl"
"""What upstream calls the whole file; `{{ template "tpl" }}` finds it."""
