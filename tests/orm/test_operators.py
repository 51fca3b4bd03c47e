"""The SQL side of a file field, on every database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from sqlalchemy import (
    Column,
    Integer,
    Table,
    case,
    desc,
    func,
    insert,
    literal,
    not_,
    null,
    or_,
    select,
    true,
    type_coerce,
)
from sqlalchemy.dialects import mysql, postgresql, sqlite
from sqlalchemy.orm import Mapped, Session, aliased, mapped_column

from granite_storage import (
    FileColumn,
    FileMapped,
    StagedValueError,
    StoredFile,
    StoredObjectRef,
    StoredObjectRefType,
    Upload,
)
from granite_storage.orm.members import portable_json

GIB = 2**30


def ref(number: int, **members: object) -> StoredObjectRef:
    """A ref as a row may hold it, of an object that need not be there."""
    made = StoredObjectRef("documents", "memory", f"docs/{number}", number, f"sha256:{number:064x}")
    return made.replace(**members)


@pytest.fixture
def add(session, Document):
    """Writes rows that hold refs, with no object behind them."""

    def add(*refs: StoredObjectRef | None) -> None:
        session.execute(insert(Document.__table__), [{"title": str(n), "report": one} for n, one in enumerate(refs)])

    return add


def test_every_member_is_an_expression_with_its_own_type(session, Document, add):
    one = ref(
        5, content_type="application/pdf", original_filename="a.pdf", created_at="2024-05-06T07:08:09.123456+00:00"
    )
    add(one)
    file = Document.report
    members = select(
        file.size, file.content_type, file.filename, file.location, file.checksum,
        file.created_at, file.storage_key, file.backend,
    )  # fmt: skip
    assert session.execute(members).one() == (
        5,
        "application/pdf",
        "a.pdf",
        "docs/5",
        one.checksum,
        datetime(2024, 5, 6, 7, 8, 9, 123456, UTC),
        "documents",
        "memory",
    )


def test_members_of_an_empty_field_and_members_a_ref_does_not_have_are_null(session, Document, add):
    add(None, ref(1))
    file = Document.report
    rows = session.execute(
        select(file.size, file.content_type, file.filename, file.created_at, file.extra["a"].as_string()).order_by(
            Document.id
        )
    )
    assert rows.all() == [(None,) * 5, (1, None, None, None, None)]
    assert session.scalars(select(Document.title).where(file.content_type.is_(None)).order_by(Document.id)).all() == [
        "0",
        "1",
    ]


@pytest.mark.parametrize(
    ("size", "other"), [(5 * GIB, 10 * GIB), (4 * GIB - 1, 4 * GIB), (2**31 - 1, 2**31), (2**53, 2**53 + 1), (9, 10)]
)
def test_sizes_compare_as_numbers_of_64_bits(session, Document, add, size, other):
    add(ref(1, size=size), ref(2, size=other))
    file = Document.report
    assert session.scalars(select(file.size).where(file.size > size)).all() == [other]
    assert session.scalars(select(file.size).where(file.size <= size)).all() == [size]
    assert session.scalars(select(file.size).where(file.size == other)).all() == [other]
    assert session.scalars(select(file.size).order_by(file.size)).all() == [size, other]
    assert session.execute(select(func.max(file.size), func.min(file.size))).one() == (other, size)
    assert session.scalar(select(func.max(file.size - file.size + 2**40))) == 2**40


def test_aggregates_and_groups(session, Document, add):
    pdf, png = {"content_type": "application/pdf"}, {"content_type": "image/png"}
    add(ref(1, **pdf), ref(2, **pdf), ref(30, **png), None)
    file = Document.report
    groups = (
        select(file.content_type, func.count(), func.sum(file.size))
        .where(file.is_not(None))
        .group_by(file.content_type)
        .having(func.count(file.size) > 0)
        .order_by(desc(func.sum(file.size)))
    )
    assert [(kind, count, int(total)) for kind, count, total in session.execute(groups)] == [
        ("image/png", 1, 30),
        ("application/pdf", 2, 3),
    ]


def test_order_by_members(session, Document, add):
    add(*(ref(number, original_filename=name) for number, name in ((10, "b"), (9, "c"), (100, "a"))))
    file = Document.report
    assert session.scalars(select(file.size).order_by(file.size.desc())).all() == [100, 10, 9]
    assert session.scalars(select(file.size).order_by(file.filename)).all() == [100, 10, 9]


def test_text_members_take_text_operators_and_tell_case(session, Document, add):
    add(ref(1, original_filename="Report.PDF"), ref(2, original_filename="report.pdf"))
    file = Document.report
    assert session.scalars(select(file.size).where(file.filename == "report.pdf")).all() == [2]
    assert session.scalars(select(file.size).where(file.filename.endswith(".pdf"), file.size > 1)).all() == [2]
    assert session.scalars(select(file.size).where(func.lower(file.filename).like("%.pdf"))).all() == [1, 2]
    assert session.scalars(select(file.size).where(file.location.startswith("docs/"))).all() == [1, 2]
    assert session.scalars(select(file.size).where(file.filename.in_(["Report.PDF"]))).all() == [1]


@pytest.mark.parametrize(
    "name", ["naïve café.txt", "レポート.docx", "\U0001f469\u200d\U0001f680.png", "a\"b\\c'd%e:f.txt", "null"]
)
def test_any_filename_is_found_and_comes_back(session, Document, add, name):
    add(ref(1, original_filename=name), ref(2, original_filename="other"))
    file = Document.report
    assert session.scalars(select(file.filename).where(file.filename == name)).all() == [name]


def test_created_at_compares_with_datetimes_in_any_zone(session, Document, add):
    moment = datetime(2024, 5, 6, 12, tzinfo=UTC)
    add(
        ref(1, created_at=moment.isoformat(timespec="microseconds")),
        ref(2, created_at=(moment + timedelta(days=1)).isoformat()),  # without microseconds, as 0.1.0 could write it
    )
    file = Document.report
    elsewhere = moment.astimezone(timezone(timedelta(hours=5, minutes=30)))
    for same in (moment, elsewhere, moment.replace(tzinfo=None)):
        assert session.scalars(select(file.size).where(file.created_at <= same)).all() == [1]
        assert session.scalars(select(file.size).where(file.created_at > same)).all() == [2]
    assert session.scalar(select(func.max(file.created_at))) == moment + timedelta(days=1)


def test_extra_by_key_by_path_and_by_index(session, Document, add):
    add(
        ref(1, extra={"camera": {"model": "X100", "iso": 400, "raw": True}, "tags": ["a", "b"], "ratio": 1.5}),
        ref(2, extra={"camera": {"model": "Z9"}}),
        ref(3),
    )
    extra = Document.report.extra
    assert session.scalars(select(extra["camera", "model"].as_string()).where(Document.report.size < 3)).all() == [
        "X100",
        "Z9",
    ]
    assert session.scalars(select(Document.report.size).where(extra["camera", "model"].as_string() == "Z9")).all() == [
        2
    ]
    assert session.scalars(select(Document.report.size).where(extra["camera", "iso"].as_integer() > 100)).all() == [1]
    assert session.scalars(select(Document.report.size).where(extra["camera", "raw"].as_boolean() == true())).all() == [
        1
    ]
    assert session.scalars(select(Document.report.size).where(extra["ratio"].as_float() > 1.4)).all() == [1]
    assert session.scalars(select(extra["tags", 1].as_string()).where(Document.report.size == 1)).all() == ["b"]
    assert session.scalars(select(extra["camera"]).where(Document.report.size == 2)).all() == [{"model": "Z9"}]


@pytest.mark.parametrize("key", ["it's", "a.b", "a b", "ключ", "100%:x", "[0]", "$", "back\\slash", "{a,b}"])
def test_extra_by_any_key(session, Document, add, key):
    add(ref(1, extra={key: "found"}), ref(2, extra={"other": "x"}))
    assert session.scalars(
        select(Document.report.size).where(Document.report.extra[key].as_string() == "found")
    ).all() == [1]


@pytest.mark.databases("postgresql", "mariadb")  # SQLite finds it from 3.45 on
def test_extra_by_a_key_with_a_quotation_mark(session, Document, add):
    add(ref(1, extra={'a"b': "found"}), ref(2))
    assert session.scalars(
        select(Document.report.size).where(Document.report.extra['a"b'].as_string() == "found")
    ).all() == [1]


def test_emptiness(session, Document, add):
    add(None, ref(1))
    file, title = Document.report, Document.title
    for empty in (file.is_(None), file == None, file == null(), file.is_(null()), ~(file != None)):  # noqa: E711
        assert session.scalars(select(title).where(empty)).all() == ["0"]
    for full in (file.is_not(None), file != None, file.isnot(None), not_(file.is_(None)), file != null()):  # noqa: E711
        assert session.scalars(select(title).where(full)).all() == ["1"]


def test_a_json_null_counts_as_empty(session, Document):
    table = Document.__table__
    session.execute(insert(table).values(title="json null", report=type_coerce("null", portable_json())))
    session.execute(table.update().values(report=literal(None, type_=portable_json_with_json_null())))
    assert session.scalar(select(func.count()).where(table.c.report.is_(None))) == 1
    assert session.scalars(select(Document)).one().report is None


def portable_json_with_json_null():
    from sqlalchemy import JSON
    from sqlalchemy.dialects.postgresql import JSONB

    return JSON(none_as_null=False).with_variant(JSONB(none_as_null=False), "postgresql")


def test_equality_is_that_of_the_object(session, Document, add, manager):
    add(ref(1), ref(2), ref(1, backend="disk"))
    file, title = Document.report, Document.title
    same = ref(1, size=99, storage_key="covers")
    for given in (same, manager.file(same)):
        assert session.scalars(select(title).where(file == given)).all() == ["0"]
        assert session.scalars(select(title).where(file != given).order_by(title)).all() == ["1", "2"]
        assert session.scalars(select(title).where(file.in_([given, ref(2)])).order_by(title)).all() == ["0", "1"]
        assert session.scalars(select(title).where(file.not_in([given, ref(2)]))).all() == ["2"]
    assert session.scalars(select(title).where(file.in_([]))).all() == []


def test_equality_of_two_file_fields(session, Document):
    session.execute(
        insert(Document.__table__),
        [
            {"title": "same", "report": ref(1), "cover": ref(1, size=7)},
            {"title": "other location", "report": ref(1), "cover": ref(2)},
            {"title": "other backend", "report": ref(1), "cover": ref(1, backend="disk")},
        ],
    )
    title = select(Document.title).order_by(Document.id)
    assert session.scalars(title.where(Document.report == Document.cover)).all() == ["same"]
    others = ["other location", "other backend"]
    assert session.scalars(title.where(Document.report != Document.cover)).all() == others
    assert session.scalars(title.where(~(Document.report == Document.cover))).all() == others
    assert session.scalars(title.where(or_(Document.report == Document.cover, Document.id < 0))).all() == ["same"]
    twin = aliased(Document)
    pairs = select(func.count()).select_from(Document).join(twin, twin.cover == Document.report)
    assert session.scalar(pairs) == 3


def test_a_file_column_is_itself_to_sqlalchemys_dictionaries(Document):
    column = Document.__table__.c.report
    annotated = column._annotate({"of": "a test"})
    assert {column: "found"}[annotated] == "found"
    assert bool(column == annotated)
    assert not bool(column == Document.__table__.c.cover)
    assert bool(column != Document.__table__.c.cover)


def test_an_upload_that_is_staged_equals_nothing_in_sql(Document):
    with pytest.raises(StagedValueError, match="flush the session before the query"):
        _ = Document.report == Document(report=b"x").report


@pytest.mark.parametrize("value", [5, "docs/1", b"bytes", {"location": "docs/1"}, Upload(b"x")])
def test_what_is_no_file_is_no_operand(Document, value):
    with pytest.raises(TypeError, match=r"compare a member instead, such as \.filename"):
        _ = Document.report == value
    with pytest.raises(TypeError, match="compare a member instead"):
        Document.report.in_([value])


def test_a_column_that_is_no_file_is_no_operand(session, Document):
    with pytest.raises(TypeError, match="compare a member instead"):
        session.scalars(select(Document.id).where(Document.report == Document.title))


def test_the_members_survive_case_coalesce_max_and_subqueries(session, Document, add):
    add(ref(1), ref(2))
    file = Document.report
    chosen = case((Document.title == "0", file), else_=None)
    assert session.scalars(select(type_coerce(chosen, file.type).size).order_by(Document.id)).all() == [1, None]
    inner = select(file.label("file")).where(file.size == 2).subquery()
    assert session.scalars(select(inner.c.file.location)).all() == ["docs/2"]
    cte = select(func.coalesce(Document.cover, file).label("either")).cte()
    assert session.scalars(select(cte.c.either.size).order_by(cte.c.either.size)).all() == [1, 2]
    other = aliased(Document)
    largest = select(func.max(other.report.size)).scalar_subquery()
    assert session.scalars(select(Document.title).where(file.size == largest)).all() == ["1"]


def test_an_update_and_a_delete_by_member(session, Document, add):
    add(ref(1), ref(2), ref(3))
    session.execute(Document.__table__.update().where(Document.report.size == 2).values(title="two"))
    session.execute(Document.__table__.delete().where(Document.report.size == 3))
    assert session.scalars(select(Document.title).order_by(Document.id)).all() == ["0", "two"]


def test_statements_are_cached_and_values_are_not(session, Document, add):
    add(ref(1), ref(2))
    for number in (1, 2):
        statement = select(Document.report.size).where(Document.report == ref(number))
        assert session.scalars(statement).all() == [number]
        assert statement._generate_cache_key() is not None
    assert select(Document.report.size)._generate_cache_key() != select(Document.report.filename)._generate_cache_key()
    assert (
        select(Document.report == Document.cover)._generate_cache_key()
        != select(Document.report != Document.cover)._generate_cache_key()
    )


def test_a_type_without_a_policy_has_the_same_members(engine, Base):
    table = Table("plain", Base.metadata, Column("id", Integer, primary_key=True), Column("ref", StoredObjectRefType()))
    Base.metadata.create_all(engine)
    with engine.begin() as connection:
        connection.execute(table.insert().values(id=1, ref=ref(7)))
        assert connection.execute(select(table.c.ref.size, table.c.ref.backend)).one() == (7, "memory")
        assert connection.scalar(select(table.c.id).where(table.c.ref == ref(7))) == 1


@pytest.mark.parametrize(
    ("dialect", "text"),
    [
        (sqlite.dialect(), "json_extract(document.report, '$.size') > ?"),
        (postgresql.dialect(), "(CAST((document.report ->> 'size') AS BIGINT)) > "),
        (mysql.dialect(), "CAST(JSON_VALUE(document.report, '$.size' RETURNING CHAR(2048)) AS SIGNED) > %s"),
    ],
)
def test_the_sql_text_is_fixed_so_that_an_index_serves_it_next_year_too(Document, dialect, text):
    assert text in str((Document.report.size > 5).compile(dialect=dialect))


def test_the_sql_side_of_an_inherited_field(Base, open_session):
    class Person(Base):
        __tablename__ = "person"
        id: Mapped[int] = mapped_column(primary_key=True)
        photo: FileMapped[StoredFile | None] = FileColumn("documents")

    session = open_session()
    session.add(Person(photo=b"12345"))
    session.flush()
    assert session.scalars(select(aliased(Person, flat=True).photo.size)).all() == [5]


def test_distinctness_is_the_objects_and_never_null(Document: Any, session: Session) -> None:
    one, other = Document(report=b"a"), Document(report=None)
    session.add_all([one, other])
    session.commit()
    same = one.report.ref.replace(storage_key="other")

    def ids(criterion: Any) -> list[Any]:
        return list(session.scalars(select(Document.id).where(criterion).order_by(Document.id)))

    assert ids(Document.report.is_not_distinct_from(same)) == [one.id]
    assert ids(Document.report.is_distinct_from(same)) == [other.id]
    assert ids(Document.report.is_not_distinct_from(None)) == [other.id]
    assert ids(Document.report.is_distinct_from(None)) == [one.id]
    assert ids(Document.report.is_not_distinct_from(Document.report)) == [one.id, other.id]
