"""What a backend is told about an object, and what it serves: settings, and presigned URLs."""

from __future__ import annotations

import io
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.request import urlopen

from granite_storage.backends.base import Ability, has_ability
from granite_storage.object_settings import ObjectSettings
from granite_storage.serving import content_disposition
from granite_storage.testing.suite.sources import content_of, fresh_location, one_shot, ref_to

__all__ = ["ServingSuite"]

_SETTINGS = ObjectSettings(cache_control="private, max-age=60", metadata={"project": "apollo"})
_NAME = 'na\u00efve "x"; \u65e5\u672c\\a\'b%.png'


class ServingSuite:
    """Checks of ``settings`` and of ``presign_get``, where they are declared."""

    trusting: ssl.SSLContext | None = None
    """What a client needs to trust the server, if its certificate is no public one."""

    def fetch(self, url: str) -> tuple[bytes, Mapping[str, str]]:
        """What is at a URL, and its headers."""
        with urlopen(url, context=self.trusting) as answer:
            return answer.read(), answer.headers

    def test_objects_are_put_and_copied_with_settings(self, backend: Any) -> None:
        if not has_ability(backend, Ability.OBJECT_SETTINGS):
            return
        about: dict[str, Any] = {"content_type": "image/png", "original_filename": _NAME, "settings": _SETTINGS}
        for size in (0, 10, 9_000_000):
            content = content_of(size)
            refs = [
                backend.put_bytes(key=fresh_location(), content=content, **about),
                backend.put_stream(key=fresh_location(), stream=io.BytesIO(content), size=size, **about),
                backend.put_stream(key=fresh_location(), stream=one_shot(content, 65_536), **about),
            ]
            if has_ability(backend, Ability.COPY):
                copied = fresh_location()
                backend.copy(refs[0], key=copied, settings=_SETTINGS)
                refs.append(ref_to(backend, copied))
            for ref in refs:
                assert backend.get(ref) == content, f"{size} bytes with settings came back changed"

    def test_a_presigned_url_gives_the_object_with_the_headers_that_were_asked_for(self, backend: Any) -> None:
        if not has_ability(backend, Ability.PRESIGN):
            return
        for name in ("a", "a b", "a+b", "a%20b", "a&b=c?d#e", "~'", "\u00e4\u65e5\U0001f600"):
            content = name.encode()
            ref = backend.put_bytes(key=f"suite/{name}", content=content, content_type="text/html")
            for kind in ("image/png", "text/csv; charset=utf-8"):
                disposition = content_disposition(kind, _NAME)
                url = backend.presign_get(ref, expires=60, content_type=kind, content_disposition=disposition)
                body, headers = self.fetch(url)
                assert body == content, f"the URL of {ref.location!r} gives something else"
                assert headers["Content-Type"] == kind, "the URL does not give the type that was asked for"
                assert headers["Content-Disposition"] == disposition, "the URL gives another disposition"

    def test_the_path_below_a_public_url_ends_with_the_location(self, backend: Any) -> None:
        if not has_ability(backend, Ability.PRESIGN):
            return
        location = "suite/a b/\u00e4+%20.bin"
        path = backend.object_path(ref_to(backend, location))
        assert path == location or path.endswith("/" + location), f"{location!r} is said to be at {path!r}"
        assert not path.startswith("/"), "the path begins with a slash, and the base URL has one before it"
