"""The compliance suite of backends: subclass it, give it a backend, and its tests are yours.

It is to backends what ``sqlalchemy.testing.suite`` is to dialects. pytest is all it needs::

    import pytest
    from granite_storage.testing.suite import BackendSuite

    class TestMyBackend(BackendSuite):
        @pytest.fixture
        def backend(self, tmp_path):
            return MyBackend(tmp_path)          # empty, and a new one for each test

What every backend must do is always tested: this is the protocol of granite-storage 0.1.0, with what keeps files safe.
What a backend may do is tested if its ``abilities`` declare it
(:class:`~granite_storage.backends.base.Ability`). A subclass may override a check that does not fit its kind of store,
and say why.
"""

from __future__ import annotations

from granite_storage.testing.suite.concurrency import ConcurrencySuite
from granite_storage.testing.suite.deleting import DeletingSuite
from granite_storage.testing.suite.direct_upload import DirectUploadSuite
from granite_storage.testing.suite.grouping import GroupingSuite
from granite_storage.testing.suite.listing import ListingSuite
from granite_storage.testing.suite.reading import ReadingSuite
from granite_storage.testing.suite.refusing import RefusingSuite
from granite_storage.testing.suite.serving import ServingSuite
from granite_storage.testing.suite.storing import StoringSuite

__all__ = ["BackendSuite"]


class BackendSuite(
    StoringSuite,
    RefusingSuite,
    ReadingSuite,
    DeletingSuite,
    ListingSuite,
    ConcurrencySuite,
    GroupingSuite,
    ServingSuite,
    DirectUploadSuite,
):
    """Every check; a subclass has a pytest fixture ``backend`` that gives an empty backend."""
