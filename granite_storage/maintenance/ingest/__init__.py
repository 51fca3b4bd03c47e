"""Taking in what is elsewhere: values of an old column become files of a file column, and go back.

:func:`ingest` stores what an old column holds, or names by a path, and writes the refs into a file column;
:func:`put_back` is the way back. Both work in batches, each committed by itself, and can be killed and run again at any
point: what is done shows in the rows, and nothing else is remembered. ``op.convert_to_file_column`` of
:mod:`alembic_ext.operations` is a face of these.
"""

from __future__ import annotations

from granite_storage.maintenance.ingest.conversion import Conversion
from granite_storage.maintenance.ingest.putting_back import put_back
from granite_storage.maintenance.ingest.report import ConversionReport, Progress, RowFailure
from granite_storage.maintenance.ingest.taking_in import ingest

__all__ = ["Conversion", "ConversionReport", "Progress", "RowFailure", "ingest", "put_back"]
