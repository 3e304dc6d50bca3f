"""Files that a request attaches: uploads by id, or content that came with it. Nothing else is ever opened."""

from __future__ import annotations

import base64
import binascii
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from baywindow.documents.base import Document
from baywindow.documents.sources import documents_of
from baywindow.documents.walk import shown
from baywindow.errors import SourceError
from baywindow.server.errors import ApiError
from baywindow.server.forms.chat import FileReference
from baywindow.server.keys import Tenant
from baywindow.server.storage import Files, shown_name


def documents(references: Sequence[FileReference], files: Files, tenant: Tenant) -> tuple[list[Document], dict[str, str]]:
    """The documents, and the ids of those that are uploads by the name they are cited under. 404 for an upload that is not there."""
    found: list[Document] = []
    ids: dict[str, str] = {}
    for reference in references:
        if reference.file_id is not None:
            file = files.get(tenant, reference.file_id)
            made = _read(files.path(tenant, file), file.filename)
            ids[made.source] = file.id
        elif reference.file_data is not None:
            made = _sent(reference.file_data, shown_name(reference.filename or "attachment"))
        else:
            raise ApiError(400, "a file part needs file_id or file_data", param="messages", code="invalid_value")
        found.append(made)
    return found, ids


def _sent(data: str, name: str) -> Document:
    """Content as base64, or as a data URL."""
    encoded = data.partition(",")[2] if data.startswith("data:") else data
    try:
        content = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ApiError(400, "file_data is not base64", param="messages", code="invalid_value") from None
    with tempfile.TemporaryDirectory(prefix="baywindow-") as folder:
        suffix = Path(name).suffix if Path(name).suffix[1:].isalnum() else ""
        path = Path(folder) / f"content{suffix}"
        path.write_bytes(content)
        return _read(path, name)


def _read(path: Path, name: str) -> Document:
    try:
        return replace(documents_of([path])[0], source=name)
    except SourceError as error:
        raise SourceError(error.message.replace(str(path), name).replace(shown(path), name), hint=error.hint) from None
