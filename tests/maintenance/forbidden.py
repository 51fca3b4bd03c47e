"""Rows that a database does not let be changed, as a trigger or a constraint has it."""

from __future__ import annotations

from sqlalchemy import Engine

__all__ = ["forbid_changes"]


def forbid_changes(
    engine: Engine, number: int | None, *, deferred: bool = False, locked: bool = False, state: str | None = None
) -> None:
    """No row of ``document`` with this id, or none at all, can be changed any more.

    :param deferred: PostgreSQL says so only at the COMMIT.
    :param locked: the database says that it waited for somebody's lock for too long; not SQLite.
    :param state: the SQLSTATE that PostgreSQL says.
    """
    name, which = engine.dialect.name, "true" if number is None else f"OLD.id = {number}"
    if name == "sqlite":
        when = f"CREATE TRIGGER fixed BEFORE UPDATE ON document WHEN {which} "
        statements = [when + "BEGIN SELECT RAISE(ABORT, 'it is fixed'); END"]
    elif name == "postgresql":
        kind = "CONSTRAINT TRIGGER fixed AFTER" if deferred else "TRIGGER fixed BEFORE"
        defer = "DEFERRABLE INITIALLY DEFERRED " if deferred else ""
        when = f"CREATE {kind} UPDATE ON document {defer}FOR EACH ROW WHEN ({which}) "
        body = f"BEGIN RAISE 'it is fixed' USING ERRCODE = '{state or ('55P03' if locked else '23514')}'; END"
        statements = [
            f"CREATE FUNCTION fixed() RETURNS trigger LANGUAGE plpgsql AS $$ {body} $$",
            when + "EXECUTE FUNCTION fixed()",
        ]
    else:
        when = f"CREATE TRIGGER fixed BEFORE UPDATE ON document FOR EACH ROW BEGIN IF {which} THEN "
        signal = "'HY000' SET MYSQL_ERRNO = 1205," if locked else "'45000' SET"
        statements = [when + f"SIGNAL SQLSTATE {signal} MESSAGE_TEXT = 'it is fixed'; END IF; END"]
    with engine.begin() as connection:
        for statement in statements:
            connection.exec_driver_sql(statement)
