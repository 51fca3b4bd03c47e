"""What tells that somebody else holds a lock."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from granite_storage.maintenance.row_locks import is_locked_out


@pytest.mark.databases("sqlite")
def test_a_table_with_locked_in_its_name_is_no_lock(engine: Engine) -> None:
    with engine.connect() as connection:
        with pytest.raises(OperationalError, match="no such table: locked") as missing:
            connection.execute(text("UPDATE locked SET id = 1"))
        assert not is_locked_out(connection, missing.value)
        connection.rollback()
        connection.execute(text("CREATE TABLE one (id INTEGER)"))
        connection.commit()
        with engine.connect() as other:
            other.exec_driver_sql("PRAGMA busy_timeout = 0")
            connection.execute(text("INSERT INTO one VALUES (1)"))
            with pytest.raises(OperationalError) as locked:
                other.execute(text("INSERT INTO one VALUES (1)"))
            assert is_locked_out(other, locked.value)
