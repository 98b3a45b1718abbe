"""A case: a name, what is sent, which rule of the contract it asks about; and the table that collects them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ipai_harness.conform.shot import Bench, Expect, Shot

Build = Callable[[Bench], Sequence[Shot]]


class Need(enum.Enum):
    """What a case cannot be sent without, in words for people."""

    ROTATION = "a second secret: give IPAI_BRIDGE_SECRET both, the new one first"
    STANDARD = "a secret of the form whsec_<base64>, as `ipai-bridge keygen` makes it"
    JWT = "a token that the gateway takes, such as the anon key: give IPAI_HARNESS_JWT"


@dataclass(frozen=True)
class Case:
    """One named question to a receiver. `sent`: what is sent; `why`: the rule's sentence."""

    group: str
    name: str
    sent: str
    why: str
    build: Build
    needs: tuple[Need, ...] = ()

    @property
    def id(self) -> str:
        """`group/name`."""
        return f"{self.group}/{self.name}"

    def missing(self, bench: Bench) -> str | None:
        """Why it cannot be sent from this bench; None if it can."""
        there = {
            Need.ROTATION: len(bench.secrets) > 1,
            Need.STANDARD: bench.secrets[0].is_standard,
            Need.JWT: bench.jwt is not None,
        }
        return next((f"needs {need.value}" for need in self.needs if not there[need]), None)


class Table:
    """The cases of one group, in order."""

    def __init__(self, group: str) -> None:
        self.group = group
        self.cases: list[Case] = []

    def add(self, name: str, sent: str, why: str, build: Build, *needs: Need) -> None:
        """One case more."""
        self.cases.append(Case(self.group, name, sent, why, build, needs))

    def body(self, name: str, sent: str, why: str, make: Callable[[Bench], bytes], expect: Expect) -> None:
        """A case of one well signed request with this body."""
        self.add(name, sent, why, lambda bench: [Shot(expect, bench.number(), make(bench))])
