"""Templates with the text that upstream makes of them, or null where it fails, one to a line of the file beside this.

tests/integration/test_upstream_templates.py asks upstream again. `@R` stands for loading `RESOURCE`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = {"A": "1", "B": "x,y"}
RESOURCE = r"""
go_version = '1.18'
n = 3
f = 1.5
big = 1e30
small = 1e-7
yes = true
inf = inf
nan = nan
d1 = 1979-05-27T07:32:00Z
d2 = 1979-05-27T00:32:00.999-07:00
d3 = 1979-05-27T07:32:00
d4 = 1979-05-27
d5 = 07:32:00.5
ar = [1, 2, 3]
mix = [1, "a", 2.0, [1], { a = 1 }]
emp = []
nest = [[1, 2], ["a"]]
inl = { x = 1, y = { z = 2 } }
str = "q\"uo\nte\u0001é\\\t"
"odd key" = 1
[[values]]
id = "a"
[[values]]
id = "b"
[values.sub]
k = 1
[t1]
x = 1
[t1.t2]
y = 2
[t1.t2.t3]
[empty]
"""


@dataclass(frozen=True, slots=True)
class Sample:
    group: str
    template: str
    text: str | None


def _read() -> list[Sample]:
    lines = Path(__file__).with_suffix(".jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    return [Sample(group, template.replace("@R", 'load_resource "r.toml"'), text) for group, template, text in rows]


SAMPLES = _read()
