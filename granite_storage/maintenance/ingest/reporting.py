"""Telling how far a conversion is: to a callback after each batch, and to the log every few seconds."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from granite_storage.exceptions import ConversionError
from granite_storage.maintenance.ingest.report import ConversionReport, OnProgress, RowFailure

if TYPE_CHECKING:
    from granite_storage.maintenance.ingest.keyed_table import Key, KeyedTable

__all__ = ["Reporter"]

_EVERY = 5.0  # seconds
_SHOWN = 10
_log = logging.getLogger("granite_storage.ingest")


class Reporter:
    """What one run notes.

    :param about: what is converted, for messages.
    :param stop: whether a row that cannot be converted ends the run.
    """

    def __init__(self, about: str, table: KeyedTable, total: int, *, stop: bool, progress: OnProgress | None) -> None:
        self.report = ConversionReport(total=total)
        self._about, self._table, self._stop, self._progress = about, table, stop, progress
        self._told = time.monotonic()
        if total:
            _log.info("%s: %d rows to convert", about, total)

    def fail(self, key: Key, error: Exception) -> None:
        """Note a row that could not be converted; the log names no file."""
        failure = RowFailure(key, self._table.told(key), error)
        self.report.fail(failure)
        if not self._stop:
            _log.warning("%s was not converted: %s", failure.row, type(error).__name__)

    def batch_ended(self) -> None:
        """A batch is committed.

        :raises ConversionError: if rows of it failed, and that is to end the run.
        """
        if time.monotonic() - self._told >= _EVERY:
            self._told = time.monotonic()
            _log.info("%s: %s", self._about, self.report.progress)
        if self._progress is not None:
            self._progress(self.report.progress)
        if self._stop and self.report.failed:
            raise self._error(
                f"{self._about}: {self.report.failed} row{'s' * (self.report.failed > 1)} cannot be converted; "
                f"{self.report.rows} others of this run are, and are committed. Mend or empty the rows, or leave them "
                "as they are with on_error='skip'; running it again goes on from here"
            )

    def end(self, left: int) -> ConversionReport:
        """The run is at its end.

        :param left: rows that there are to do now.
        :raises ConversionError: if there are others than those that failed.
        """
        more = left - self.report.failed
        if more > 0:
            raise self._error(
                f"{self._about}: {more} row{'s are' if more > 1 else ' is'} left, written meanwhile, or with a primary "
                "key that is NULL. Stop what writes the old column, and run it again"
            )
        _log.info("%s: %s", self._about, self.report)
        return self.report

    def _error(self, message: str) -> ConversionError:
        shown = "".join(f"\n  - {one}" for one in self.report.failures[:_SHOWN])
        more = self.report.failed - _SHOWN
        return ConversionError(
            message + shown + (f"\n  - and {more} more" if more > 0 else ""), self.report.failures, report=self.report
        )
