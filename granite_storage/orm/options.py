"""What a MetaData says about its file fields: the names of the tables that join it, and whether triggers are used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from granite_storage.exceptions import ConfigurationError

if TYPE_CHECKING:
    from sqlalchemy import MetaData

__all__ = ["OPTIONS_KEY", "MetadataOptions", "metadata_options", "options_of"]

OPTIONS_KEY = "granite_storage.options"
"""Where ``MetaData.info`` keeps the options."""


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """The options of one MetaData; see :func:`metadata_options`."""

    outbox: str | None = "granite_storage_outbox"
    registry: str = "granite_storage_fields"
    triggers: bool = False


_DEFAULTS = MetadataOptions()


def metadata_options(
    *,
    outbox: str | None = _DEFAULTS.outbox,
    registry: str = _DEFAULTS.registry,
    triggers: bool = _DEFAULTS.triggers,
) -> dict[str, Any]:
    """The file options of a MetaData, for ``MetaData(info=...)``; to be given before the first file field is declared.

    :param outbox: the name of the table of freed objects; None for none. Without it deletion after a commit is best
        effort: what a crash or a failing backend leaves behind is found by a full gc only.
    :param registry: the name of the table of declared file fields.
    :param triggers: whether file columns have triggers unless ``FileColumn(trigger=False)`` says otherwise.
    :raises ConfigurationError: if a name is no name, or triggers are asked for without an outbox to write.

    >>> from sqlalchemy import MetaData
    >>> metadata = MetaData(info=metadata_options(outbox="freed_files"))
    >>> options_of(metadata).outbox
    'freed_files'
    """
    names: tuple[tuple[str, Any], ...] = (("outbox", outbox), ("registry", registry))
    for what, name in names:
        if (name is None and what == "registry") or (name is not None and (not isinstance(name, str) or not name)):
            raise ConfigurationError(f"metadata_options: {what} is the name of a table, not {name!r}")
    if triggers and outbox is None:
        raise ConfigurationError("metadata_options: triggers write the outbox; with outbox=None there is none to write")
    if outbox == registry:
        raise ConfigurationError(f"metadata_options: outbox and registry are two tables, and both are {outbox!r}")
    return {OPTIONS_KEY: MetadataOptions(outbox, registry, triggers)}


def options_of(metadata: MetaData) -> MetadataOptions:
    """The file options of a MetaData; the defaults if it has none."""
    options: MetadataOptions = metadata.info.get(OPTIONS_KEY, _DEFAULTS)
    return options
