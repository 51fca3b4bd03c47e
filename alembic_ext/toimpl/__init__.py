"""What the operations do in a database; one concept a file."""

from __future__ import annotations

from alembic_ext.toimpl import columns, conversions, fields, storage_tables, tables, triggers

__all__ = ["columns", "conversions", "fields", "storage_tables", "tables", "triggers"]
