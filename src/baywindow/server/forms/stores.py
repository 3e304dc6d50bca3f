"""`/v1/vector_stores` and what is below it."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from baywindow.server.forms.base import Form, Metadata, Text

Attributes = Annotated[dict[str, Text | float | bool], Field(max_length=16)]
FileIds = Annotated[list[str], Field(max_length=500)]


class NewStoreForm(Form):
    name: Annotated[Text, Field(max_length=256)] | None = None
    file_ids: FileIds | None = None
    metadata: Metadata | None = None
    # Known to OpenAI, and without effect here: chunks are those of the index, and stores stay until they are deleted.
    description: Text | None = None
    chunking_strategy: dict[str, Any] | None = None
    expires_after: dict[str, Any] | None = None


class ChangedStoreForm(Form):
    name: Annotated[Text, Field(max_length=256)] | None = None
    metadata: Metadata | None = None
    expires_after: dict[str, Any] | None = None


class NewMemberForm(Form):
    file_id: str
    attributes: Attributes | None = None
    chunking_strategy: dict[str, Any] | None = None


class SearchForm(Form):
    query: Annotated[Text, Field(min_length=1, max_length=8000)] | Annotated[list[Text], Field(min_length=1, max_length=10)]
    max_num_results: Annotated[int, Field(ge=1, le=50)] = 10
    rewrite_query: bool | None = None
    filters: dict[str, Any] | None = None
    ranking_options: dict[str, Any] | None = None

    @property
    def text(self) -> str:
        return self.query if isinstance(self.query, str) else " ".join(self.query)
