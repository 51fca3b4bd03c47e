"""The compliance suite catches what it is there for: each broken backend fails the check that names its fault."""

from __future__ import annotations

import inspect
import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from granite_storage.exceptions import ObjectNotFoundError, StorageError
from granite_storage.presigned import PresignedRequest
from granite_storage.refs import StoredObjectRef
from granite_storage.testing.suite import BackendSuite
from tests.testing import broken_groups, broken_puts, broken_reads, broken_uploads
from tests.testing.broken_puts import Good
from tests.testing.broken_uploads import GoodUploads


class _Suite(BackendSuite):
    def send(self, request: PresignedRequest, content: bytes) -> None:
        broken_uploads.deliver(request, content)


Suite = _Suite()


BROKEN: list[tuple[type[Good], Callable[..., None]]] = [
    (broken_puts.Overwrites, Suite.test_a_put_never_replaces_an_object),
    (broken_puts.OverwritesIfRaced, Suite.test_of_puts_to_one_location_exactly_one_wins),
    (broken_puts.LosesTheLastByte, Suite.test_bytes_come_back_as_they_were_put),
    (broken_puts.LosesTheLastByte, Suite.test_a_stream_comes_back_as_it_was_put),
    (broken_puts.StopsAtAShortRead, Suite.test_a_one_shot_stream_with_short_reads_is_stored_whole),
    (broken_puts.Rewinds, Suite.test_a_stream_is_stored_from_where_it_stands),
    (broken_puts.ClosesTheStream, Suite.test_a_stream_is_left_open),
    (broken_puts.NoEmptyObjects, Suite.test_an_empty_object_is_an_object),
    (broken_puts.ForgetsMembers, Suite.test_a_ref_says_what_was_put),
    (broken_puts.FoldsCase, Suite.test_locations_keep_each_of_their_characters),
    (broken_puts.LeaksPartial, Suite.test_a_stream_that_fails_leaves_nothing_visible),
    (broken_puts.WrapsTheStreamsErrors, Suite.test_a_stream_that_fails_leaves_nothing_visible),
    (broken_puts.KeepsTheLocation, Suite.test_a_location_can_be_used_after_a_stream_failed),
    (broken_puts.VisibleTooEarly, Suite.test_an_object_is_not_visible_before_it_is_whole),
    (broken_puts.Trusting, Suite.test_nothing_is_put_at_a_hostile_location),
    (broken_puts.Trusting, Suite.test_nothing_is_read_or_deleted_at_a_hostile_location),
    (broken_puts.Trusting, Suite.test_no_hostile_folder_is_listed),
    (broken_reads.CopiesAnywhere, Suite.test_nothing_is_copied_to_a_hostile_location),
    (broken_reads.DeclaresTooMuch, Suite.test_abilities_are_declared_with_their_methods),
    (broken_reads.MissingIsEmpty, Suite.test_a_missing_object_is_an_error_to_read),
    (broken_reads.FoldersAreObjects, Suite.test_a_folder_is_not_an_object),
    (broken_reads.ExistsByPrefix, Suite.test_an_object_exists_where_it_was_put_and_nowhere_else),
    (broken_reads.OpensTheFirstBytes, Suite.test_an_object_opens_as_a_stream),
    (broken_reads.SharesAStream, Suite.test_streams_of_one_object_do_not_disturb_each_other),
    (broken_reads.CannotSeek, Suite.test_an_open_stream_can_be_sought),
    (broken_reads.SeeksWrong, Suite.test_an_open_stream_can_be_sought),
    (broken_reads.ReadsIntoTheFirstPart, Suite.test_an_object_is_read_into_a_file),
    (broken_reads.FollowsOutOfOrder, Suite.test_an_object_is_read_into_a_file),
    (broken_reads.TellsNoSize, Suite.test_an_object_is_read_into_a_file),
    (broken_reads.ReadsIntoOfNothing, Suite.test_a_missing_object_is_an_error_to_read_into_a_file),
    (broken_reads.StatIsLocalTime, Suite.test_stat_tells_size_and_time),
    (broken_reads.StatIsOff, Suite.test_stat_tells_size_and_time),
    (broken_reads.StatIsOld, Suite.test_stat_tells_size_and_time),
    (broken_reads.CopiesALink, Suite.test_a_copy_is_an_object_of_its_own),
    (broken_reads.CopiesNothing, Suite.test_a_copy_of_nothing_is_an_error_and_makes_nothing),
    (broken_reads.CopyOverwrites, Suite.test_a_copy_never_replaces_an_object),
    (broken_reads.DeletesNothing, Suite.test_a_deleted_object_is_gone),
    (broken_reads.DeletesNothing, Suite.test_a_location_can_be_used_again_after_a_delete),
    (broken_reads.DeletesNothing, Suite.test_threads_list_and_delete_while_others_put),
    (broken_reads.DeleteRaisesIfMissing, Suite.test_deleting_what_is_not_there_does_nothing),
    (broken_reads.DeletesByPrefix, Suite.test_a_delete_leaves_the_neighbours),
    (broken_reads.BatchTellsTheMissing, Suite.test_many_are_deleted_at_once),
    (broken_reads.BatchStopsAtAFailure, Suite.test_one_that_cannot_be_deleted_does_not_keep_the_others),
    (broken_reads.TakesObjectsForLeftovers, Suite.test_removing_leftovers_leaves_every_object),
    (broken_reads.RemovesInADryRun, Suite.test_removing_leftovers_leaves_every_object),
    (broken_reads.ListsEncoded, Suite.test_whatever_a_location_is_made_of_it_is_listed_and_deleted),
    (broken_reads.ListsOneLevel, Suite.test_everything_is_listed),
    (broken_reads.ListsByPrefix, Suite.test_a_prefix_is_a_folder),
    (broken_reads.MissingFolderRaises, Suite.test_a_missing_folder_lists_nothing),
    (broken_reads.EmptyPrefixIsNothing, Suite.test_an_empty_prefix_is_no_prefix),
    (broken_reads.ListsByFolder, Suite.test_objects_are_listed_in_byte_order),
    (broken_reads.ListsInUtf16Order, Suite.test_objects_are_listed_in_byte_order),
    (broken_reads.StartsAtInsteadOfAfter, Suite.test_a_listing_goes_on_after_any_location),
    (broken_reads.ListsSizesWrong, Suite.test_listed_objects_tell_size_and_time),
    (broken_reads.MixesThreads, Suite.test_threads_put_and_read_their_own),
    (broken_reads.ListingBreaksWhenPutInto, Suite.test_threads_list_and_delete_while_others_put),
    (broken_puts.StoresSettings, Suite.test_objects_are_put_and_copied_with_settings),
    (broken_puts.CopiesWithoutSettings, Suite.test_objects_are_put_and_copied_with_settings),
    (broken_groups.ShowsAtTheEnd, Suite.test_what_is_put_in_a_group_is_there_at_once),
    (broken_groups.BringsBackTheDeleted, Suite.test_puts_in_a_group_fail_as_others_do),
    (broken_groups.SwallowsErrors, Suite.test_an_error_in_a_group_comes_out_as_it_is),
    (broken_groups.RefusesTheLate, Suite.test_a_put_may_outlast_its_group),
    (broken_uploads.ListsWhatWaits, Suite.test_a_form_uploads_to_a_place_that_no_listing_shows),
    (broken_uploads.TellsAWrongChecksum, Suite.test_a_copy_is_an_object_as_any),
    (broken_uploads.TakesWhatIsThere, Suite.test_only_what_was_looked_at_is_read_and_copied),
    (broken_uploads.TheLastClaimWins, Suite.test_one_claim_is_noted),
    (broken_uploads.ForgetsItsMarks, Suite.test_one_claim_is_noted),
    (broken_uploads.SweepsByPrefix, Suite.test_old_uploads_and_marks_are_leftovers),
    (broken_uploads.SweepsTheYoung, Suite.test_old_uploads_and_marks_are_leftovers),
]


@pytest.mark.parametrize(
    ("broken", "check"), BROKEN, ids=[f"{broken.__name__}-{check.__name__[5:]}" for broken, check in BROKEN]
)
def test_each_fault_fails_its_check(broken: type[Good], check: Callable[..., None], tmp_path: Path) -> None:
    folders = {}
    if "tmp_path" in inspect.signature(check).parameters:
        folders = {name: {"tmp_path": tmp_path / name} for name in ("good", "broken")}
        for folder in folders.values():
            folder["tmp_path"].mkdir()
    check(GoodUploads(), **folders.get("good", {}))  # it is the fault that fails, not the check
    with pytest.raises((AssertionError, pytest.fail.Exception, StorageError, RuntimeError, TypeError)):
        check(broken(), **folders.get("broken", {}))


def test_each_check_has_a_fault_that_fails_it() -> None:
    checks = {name for name, _ in inspect.getmembers(BackendSuite, inspect.isfunction) if name.startswith("test_")}
    caught = {check.__name__ for _, check in BROKEN}
    # LOCAL_PATH and PRESIGN are abilities that no backend in memory has; see the tests below and in test_serving.py.
    assert checks - caught == {
        "test_a_local_path_is_the_content",
        "test_a_presigned_url_gives_the_object_with_the_headers_that_were_asked_for",
        "test_the_path_below_a_public_url_ends_with_the_location",
    }


def test_a_local_path_with_other_bytes_fails_its_check(tmp_path: Any) -> None:
    class Stale(broken_reads.DeclaresTooMuch):
        @contextmanager
        def local_path(self, ref: StoredObjectRef) -> Iterator[Any]:
            self._object(ref)
            path = tmp_path / "stale.bin"
            path.write_bytes(b"")
            yield path

    with pytest.raises(AssertionError, match="local_path"):
        Suite.test_a_local_path_is_the_content(Stale())


class TestReadsInto(BackendSuite):
    """What the broken ones are broken copies of."""

    @pytest.fixture
    def backend(self) -> broken_reads.ReadsInto:
        return broken_reads.ReadsInto()


class _OneWay(io.BytesIO):
    def seekable(self) -> bool:
        return False


class Minimal:
    """A backend as one wrote it for granite-storage 0.1.0: the protocol and nothing more."""

    backend_name = "minimal"

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def put_bytes(
        self,
        *,
        key: str,
        content: bytes,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        return self.put_stream(
            key=key,
            stream=io.BytesIO(content),
            content_type=content_type,
            original_filename=original_filename,
            extra=extra,
        )

    def put_stream(
        self,
        *,
        key: str,
        stream: BinaryIO,
        size: int | None = None,
        checksum: str | None = None,
        content_type: str | None = None,
        original_filename: str | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> StoredObjectRef:
        segments = key.split("/")
        if {"", ".", ".."} & set(segments) or segments[0] == ".incoming" or not key.isprintable() or len(key) > 1000:
            raise StorageError("no location")
        content = b"".join(iter(lambda: stream.read(65_536), b""))
        self.objects[key] = content
        digest = f"sha256:{sha256(content).hexdigest()}"
        members = {"content_type": content_type, "original_filename": original_filename, "extra": extra}
        return StoredObjectRef("", self.backend_name, key, len(content), digest, **members)  # type: ignore[arg-type]

    def get(self, ref: StoredObjectRef) -> bytes:
        try:
            return self.objects[ref.location]
        except KeyError as error:
            raise ObjectNotFoundError("missing") from error

    def open(self, ref: StoredObjectRef) -> BinaryIO:
        return _OneWay(self.get(ref))

    def delete(self, ref: StoredObjectRef) -> None:
        self.objects.pop(ref.location, None)

    def exists(self, ref: StoredObjectRef) -> bool:
        return ref.location in self.objects

    def iter_locations(self, prefix: str | None = None) -> Iterator[str]:
        folder = (prefix or "").strip("/")
        return iter([name for name in list(self.objects) if not folder or name.startswith(folder + "/")])


class TestMinimalBackend(BackendSuite):
    @pytest.fixture
    def backend(self) -> Minimal:
        return Minimal()
