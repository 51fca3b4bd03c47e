"""op.create_file_triggers and op.drop_file_triggers."""

from __future__ import annotations

import pytest

from alembic_ext.operations import CreateFileTriggersOp, DropFileTriggersOp
from granite_storage import ConfigurationError, FileColumn
from granite_storage.orm.triggers import TRIGGER_VERSION
from tests.alembic_ext.operations.running import models, noted, stand


@pytest.fixture
def Base(engine):
    made = models(report=FileColumn("documents", trigger=True))
    made.metadata.create_all(engine)
    return made


def test_triggers_are_dropped_and_made_again_and_the_registry_knows(engine, Base, run):
    column = Base.Document.__table__.c.report
    run(*[lambda op: op.drop_file_triggers("document", "report")] * 2)  # those that are not there are no mistake
    assert not stand(engine, column)
    assert noted(engine, Base) == {("document", "report", "documents", None)}
    run(*[lambda op: op.create_file_triggers("document", "report")] * 2)  # those that are there are made anew
    assert stand(engine, column)
    assert noted(engine, Base) == {("document", "report", "documents", TRIGGER_VERSION)}


def test_they_are_each_others_reverse(engine, Base, run):
    drop = DropFileTriggersOp("document", "report")
    create = drop.reverse()
    assert isinstance(create, CreateFileTriggersOp) and isinstance(create.reverse(), DropFileTriggersOp)
    run(lambda op: op.invoke(drop), lambda op: op.invoke(create))
    assert stand(engine, Base.Document.__table__.c.report)


def test_triggers_without_an_outbox_are_refused(engine, Base, run):
    if run.printed:
        return  # nobody can be asked
    Base.metadata.tables["granite_storage_outbox"].drop(engine)
    with pytest.raises(ConfigurationError, match="create_storage_outbox"):
        run(lambda op: op.create_file_triggers("document", "report"))
    with pytest.raises(ConfigurationError, match="None"):
        run(lambda op: op.create_file_triggers("document", "report", outbox=None))
