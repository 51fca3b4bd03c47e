"""From a location to the key of its object in a bucket."""

from __future__ import annotations

from dataclasses import dataclass

from granite_storage.exceptions import InvalidLocationError
from granite_storage.locations import MAX_LOCATION_BYTES, check_location

__all__ = ["BucketKeys"]


@dataclass(frozen=True, slots=True)
class BucketKeys:
    """The keys of one backend: below its prefix in its bucket.

    :param root: what precedes every location, with a slash at its end; or empty.

    >>> BucketKeys("bucket", "live/").target("docs/a.txt")
    {'Bucket': 'bucket', 'Key': 'live/docs/a.txt'}
    """

    bucket: str
    root: str

    def target(self, location: str) -> dict[str, str]:
        """Bucket and key of a location, as boto3's arguments.

        :raises InvalidLocationError: if it is no location, or too long with the prefix before it.
        """
        key = self.root + check_location(location)
        if len(key.encode()) > MAX_LOCATION_BYTES:
            raise InvalidLocationError(
                f"location {location[:80]!r}... makes a key of more than {MAX_LOCATION_BYTES} bytes with the prefix "
                f"{self.root!r} before it"
            )
        return {"Bucket": self.bucket, "Key": key}
