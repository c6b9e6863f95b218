"""The command line as upstream's users write it (client-daemon §6.1), put into the form that Typer reads.

One or two dashes are the same, aliases may have two letters (`-tp`), booleans take `=true`, flags may follow positional
arguments, and global flags may stand anywhere.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from testground.errors import TestgroundError, did_you_mean

TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


class UsageError(TestgroundError):
    """A command line that cannot be understood."""

    code = "usage"


class UnknownCommandError(UsageError):
    exit_code = 3


@dataclass(frozen=True, slots=True)
class Flag:
    long: str
    """The spelling that Typer is given, with its two dashes."""
    takes_value: bool


@dataclass(frozen=True, slots=True)
class Node:
    """A command, or a group of commands, and its flags by each of their names without dashes."""

    flags: Mapping[str, Flag]
    commands: Mapping[str, Node] = field(default_factory=dict)


def tree(command: Any) -> Node:
    """The grammar of a Typer command with everything below it."""
    flags: dict[str, Flag] = {}
    for option in command.params:
        if isinstance(option, TyperOption):
            long = next(name for name in option.opts if name.startswith("--"))
            takes_value = not (option.is_flag or option.count)
            flags.update({name.lstrip("-"): Flag(long, takes_value) for name in option.opts})
    help_flag = Flag("--help", takes_value=False)
    return Node({"help": help_flag, "h": help_flag, **flags}, _subtrees(command))


def normalize(argv: Sequence[str], root: Node) -> list[str]:
    """Every flag in its long spelling with `=`, global ones first; what is unknown stays for Typer to refuse.

    Raises `UsageError` for what could not be sent to a daemon, and for a boolean flag with another value.
    """
    for token in argv:
        if not _is_text(token):
            raise UsageError(f"the argument {token!a} is not UTF-8")
    moved: list[str] = []
    kept: list[str] = []
    node, rest = root, list(argv)
    if rest[:1] == ["help"]:
        rest = [*rest[1:], "--help"]
    while rest:
        token = rest.pop(0)
        if token == "--":
            kept += [token, *rest]
            break
        if token.startswith("-") and token != "-":
            own, shared = node.flags.get(_name(token)), root.flags.get(_name(token))
            _take(token, own or shared, rest, moved if shared and not own else kept)
            continue
        kept.append(token)
        if node.commands:
            if token not in node.commands:
                return [*moved, *kept, *rest]
            node = node.commands[token]
    return moved + kept


class Command(TyperCommand):
    """A command that names all of its missing flags at once, below its help."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        try:
            return super().parse_args(ctx, args)
        except typer.BadParameter:
            if missing := self._missing(ctx, given):
                typer.echo(ctx.get_help())
                raise UsageError(_complaint(missing)) from None
            raise

    def _missing(self, ctx: Any, args: list[str]) -> list[str]:
        values, _, _ = self.make_parser(ctx).parse_args(args)
        return [
            option.opts[0].lstrip("-")
            for option in self.params
            if isinstance(option, TyperOption) and option.required and values.get(option.name) is None
        ]


class Group(TyperGroup):
    """A group of commands: alone it shows its help, and it names the nearest command when it does not know one."""

    def get_params(self, ctx: Any) -> list[Any]:
        return _plain(super().get_params(ctx))

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            typer.echo(ctx.get_help())
            raise typer.Exit
        return super().parse_args(ctx, args)

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing:
            _refuse(args[0], [name for name in self.commands if len(name) > 1])
        return super().resolve_command(ctx, args)


def _plain(params: list[Any]) -> list[Any]:
    """A flag takes no value: its help must not show the type of one."""
    for param in params:
        if isinstance(param, TyperOption) and param.is_flag:
            param.metavar = ""
    return params


def _refuse(token: str, known: Sequence[str]) -> NoReturn:
    if token.startswith("-"):
        raise UsageError(f"No such option: {token}")
    raise UnknownCommandError(f"No help topic for '{token}'{did_you_mean(token, known)}")


def _complaint(missing: Sequence[str]) -> str:
    if len(missing) == 1:
        return f'Required flag "{missing[0]}" not set'
    return f'Required flags "{", ".join(missing)}" not set'


def _is_text(token: str) -> bool:
    """Python keeps bytes that are not UTF-8 as lone surrogates."""
    try:
        token.encode()
    except UnicodeEncodeError:
        return False
    return True


def _subtrees(command: Any) -> dict[str, Node]:
    return {name: tree(child) for name, child in getattr(command, "commands", {}).items()}


def _name(token: str) -> str:
    dashes = 2 if token.startswith("--") else 1
    return token[dashes:].partition("=")[0]


def _take(token: str, flag: Flag | None, rest: list[str], out: list[str]) -> None:
    """Append what `token`, and the value that follows it, is for Typer."""
    _, equals, value = token.partition("=")
    if flag is None:
        out.append("--" + token.lstrip("-"))
    elif flag.takes_value:
        if not equals and rest:
            equals, value = "=", rest.pop(0)
        out.append(flag.long + equals + value)
    elif not equals or value in TRUE:
        out.append(flag.long)
    elif value in FALSE:
        out[:] = [earlier for earlier in out if earlier != flag.long]
    else:
        raise UsageError(f'invalid boolean value "{value}" for flag {flag.long}')
