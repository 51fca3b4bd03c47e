"""Random histories: a real session on a real database against a model of what must exist (:mod:`.model`).

After every flush, savepoint, commit, rollback and close the rows, objects and outbox are compared with it
(:mod:`.ground`). The rules are grouped by what they do: :mod:`.assigning`, :mod:`.deleting`, :mod:`.ending`,
:mod:`.meanwhile`.
"""

from __future__ import annotations

import hypothesis
from hypothesis import HealthCheck
from hypothesis.stateful import run_state_machine_as_test

from tests.histories.deleting import Deleting
from tests.histories.ending import Ending
from tests.histories.ground import Ground
from tests.histories.meanwhile import Meanwhile

__all__ = ["History", "run_histories"]


class History(Deleting, Ending, Meanwhile):
    """One history."""


def run_histories(ground: Ground, count: int, **options: object) -> None:
    """Run random histories on the same ground, one after the other.

    :param options: of ``hypothesis.settings``.
    :raises BaseException: what the first that fails raises, made as short as can be.
    """
    settings = hypothesis.settings(
        max_examples=count,
        stateful_step_count=30,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        **options,  # type: ignore[arg-type]
    )
    run_state_machine_as_test(lambda: History(ground), settings=settings)
