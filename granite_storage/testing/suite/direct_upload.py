"""Direct uploads: what a browser sends to the store waits where nothing shows it, and is taken over once."""

from __future__ import annotations

import secrets
import ssl
import urllib.request
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import pytest

from granite_storage.backends.base import Ability, has_ability
from granite_storage.backends.incoming import UploadConditions
from granite_storage.exceptions import BackendError, ObjectExistsError, ObjectNotFoundError
from granite_storage.presigned import PresignedRequest
from granite_storage.testing.suite.sources import content_of, fresh_location

__all__ = ["DirectUploadSuite"]

_SIZE = 5000
_CONTENT = content_of(_SIZE)
_SHA256 = f"sha256:{sha256(_CONTENT).hexdigest()}"
_LATER = timedelta(days=2)


class DirectUploadSuite:
    """Checks of ``presign_upload`` and ``incoming``, where they are declared. They send real requests over HTTP.

    What the store refuses is not among them: of that only tests against the store itself can tell.
    """

    trusting: ssl.SSLContext | None = None
    """What certificates :meth:`send` trusts; for a store that signed its own."""

    def send(self, request: PresignedRequest, content: bytes) -> None:
        """Send a form as a browser does; a subclass may reach its store in another way."""
        border = secrets.token_hex(16)
        parts = [
            f'--{border}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in request.fields.items()
        ]
        head = f'--{border}\r\nContent-Disposition: form-data; name="file"; filename="x"\r\nContent-Type: x/y\r\n\r\n'
        body = b"".join([*parts, head.encode(), content, f"\r\n--{border}--\r\n".encode()])
        headers = {"Content-Type": f"multipart/form-data; boundary={border}"}
        sent = urllib.request.Request(request.url, body, headers, method="POST")
        with urllib.request.urlopen(sent, timeout=30, context=self.trusting) as answer:
            answer.read()

    def test_a_form_uploads_to_a_place_that_no_listing_shows(self, backend: Any) -> None:
        if not has_ability(backend, Ability.DIRECT_UPLOAD):
            return
        location = fresh_location()
        with pytest.raises(ObjectNotFoundError):
            backend.incoming(location).look()
        self._upload(backend, location)
        found = backend.incoming(location).look()
        assert (found.size, found.content_type) == (_SIZE, "text/plain"), "it is not what was uploaded"
        assert list(backend.iter_locations()) == [], "an upload that waits is listed"
        with backend.incoming(location).open(found) as stream:
            assert stream.read(10) == _CONTENT[:10]
            assert stream.seek(_SIZE - 10) == _SIZE - 10
            assert stream.read() == _CONTENT[-10:]

    def test_a_copy_is_an_object_as_any(self, backend: Any) -> None:
        if not has_ability(backend, Ability.DIRECT_UPLOAD):
            return
        location, key = fresh_location(), fresh_location()
        self._upload(backend, location)
        incoming = backend.incoming(location)
        ref = incoming.copy(incoming.look(), key=key, content_type="text/plain", checksum="sha256")
        assert (ref.location, ref.size) == (key, _SIZE), "the ref does not say what was copied"
        assert backend.get(ref) == _CONTENT
        assert ref.checksum in ("", _SHA256), "the ref's checksum is another content's"
        incoming.delete()
        incoming.delete()
        assert list(backend.iter_locations()) == [key]
        with pytest.raises(ObjectNotFoundError):
            incoming.look()

    def test_only_what_was_looked_at_is_read_and_copied(self, backend: Any) -> None:
        if not has_ability(backend, Ability.DIRECT_UPLOAD):
            return
        location = fresh_location()
        self._upload(backend, location)
        incoming = backend.incoming(location)
        found = incoming.look()
        self._upload(backend, location, _CONTENT[::-1])
        with pytest.raises(BackendError):
            incoming.copy(found, key=fresh_location(), content_type="text/plain")
        assert list(backend.iter_locations()) == [], "another content was copied than was looked at"
        with pytest.raises(BackendError), incoming.open(found) as stream:
            stream.read()

    def test_one_claim_is_noted(self, backend: Any) -> None:
        if not has_ability(backend, Ability.DIRECT_UPLOAD):
            return
        incoming = backend.incoming(fresh_location())
        assert incoming.claimed_by() is None
        incoming.mark_claimed("suite/first")
        incoming.mark_claimed("suite/first")
        with pytest.raises(ObjectExistsError):
            incoming.mark_claimed("suite/second")
        incoming.delete()
        assert incoming.claimed_by() == "suite/first", "the mark must stay when the upload goes"
        assert list(backend.iter_locations()) == [], "the mark is listed"

    def test_old_uploads_and_marks_are_leftovers(self, backend: Any) -> None:
        if not has_ability(backend, Ability.DIRECT_UPLOAD):
            return
        kept = backend.put_bytes(key=fresh_location(), content=b"kept")
        location, other = fresh_location(), fresh_location().replace("suite/", "suite-other/")
        for one in (location, other):
            self._upload(backend, one)
            backend.incoming(one).mark_claimed("suite/x")
        now = datetime.now(UTC)
        assert backend.remove_leftovers(now - timedelta(hours=1), prefixes=["suite"]) == 0, "these are young"
        assert backend.remove_leftovers(now + _LATER, prefixes=["suite"], dry_run=True) == 2
        assert backend.incoming(location).look().size == _SIZE, "a dry run removes nothing"
        assert backend.remove_leftovers(now + _LATER, prefixes=["suite"]) == 2
        with pytest.raises(ObjectNotFoundError):
            backend.incoming(location).look()
        assert backend.incoming(location).claimed_by() is None
        assert backend.incoming(other).look().size == _SIZE, "another folder's uploads were removed"
        assert backend.remove_leftovers(now + _LATER) == 2
        assert backend.exists(kept)

    def _upload(self, backend: Any, location: str, content: bytes = _CONTENT) -> None:
        wanted = UploadConditions("text/plain", 0, 2 * _SIZE, timedelta(minutes=5))
        self.send(backend.presign_upload(key=location, method="POST", conditions=wanted), content)
