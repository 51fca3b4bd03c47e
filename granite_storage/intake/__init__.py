"""From what an application hands over to a checked stream of bytes, ready to be stored."""

from __future__ import annotations

from granite_storage.intake.accept import Accepted, accept
from granite_storage.intake.coerce import coerce
from granite_storage.intake.stream import SizeLimitedStream
from granite_storage.intake.upload import Upload
from granite_storage.intake.validators import Candidate, Validator

__all__ = ["Accepted", "Candidate", "SizeLimitedStream", "Upload", "Validator", "accept", "coerce"]
