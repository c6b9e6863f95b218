"""The manifest of a plan (client-daemon §4.1): TOML spelling on disk, CamelCase on the wire."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from testground.api.model import Int, Item, Str, WireModel, or_zero

Options = Annotated[dict[str, Any], or_zero({})]
"""Settings of a builder or runner. That they are there, if only empty, says that the plan supports it."""


class Parameter(WireModel):
    type: Str = Field(default="", alias="Type")
    description: Str = Field(default="", alias="Description")
    unit: Str = Field(default="", alias="Unit")
    default: Any = Field(default=None, alias="Default")

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        return respelled(data, {"desc": "Description"})


class Bounds(WireModel):
    """Smallest and largest total of instances. No `max` means 0, which admits no run."""

    minimum: Int = Field(default=0, alias="Minimum")
    maximum: Int = Field(default=0, alias="Maximum")

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        return respelled(data, {"min": "Minimum", "max": "Maximum"})


class TestCase(WireModel):
    __test__ = False

    name: Str = Field(default="", alias="Name")
    instances: Bounds = Field(default_factory=Bounds, alias="Instances")
    parameters: dict[str, Annotated[Parameter, or_zero({})]] | None = Field(default=None, alias="Parameters")

    @model_validator(mode="before")
    @classmethod
    def _spellings(cls, data: Any) -> Any:
        return respelled(data, {"params": "Parameters"})


class Manifest(WireModel):
    name: Str = Field(default="", alias="Name")
    builders: dict[str, Options] | None = Field(default=None, alias="Builders")
    runners: dict[str, Options] | None = Field(default=None, alias="Runners")
    testcases: list[TestCase] | None = Field(default=None, alias="TestCases")
    extra_sources: dict[str, Annotated[list[Item], or_zero([])]] | None = Field(default=None, alias="ExtraSources")

    def case(self, name: str) -> TestCase | None:
        return next((case for case in self.testcases or [] if case.name == name), None)


def respelled(data: Any, spellings: dict[str, str]) -> Any:
    """Rename keys that TOML spells differently from the wire."""
    if not isinstance(data, dict):
        return data
    return {spellings.get(key.lower(), key) if isinstance(key, str) else key: v for key, v in data.items()}
