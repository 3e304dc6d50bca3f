"""What is known of a vector store, and how OpenAI's API shows it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class Member:
    """A file in a store and how far it is. ``status`` is OpenAI's word: in_progress, completed or failed."""

    file_id: str
    filename: str
    created_at: int
    bytes: int
    status: str = "in_progress"
    error: str = ""
    attributes: dict[str, str | float | bool] = field(default_factory=dict)


@dataclass(kw_only=True)
class VectorStore:
    """A store with its files by id."""

    id: str
    name: str
    created_at: int
    last_active_at: int
    metadata: dict[str, str] = field(default_factory=dict)
    members: dict[str, Member] = field(default_factory=dict)


def to_openai(store: VectorStore) -> dict[str, Any]:
    """In OpenAI's shape."""
    counts = {status: sum(m.status == status for m in store.members.values()) for status in ("in_progress", "completed", "failed")}
    shown_fields = {k: getattr(store, k) for k in ("id", "name", "created_at", "last_active_at", "metadata")}
    return {
        **shown_fields,
        "object": "vector_store",
        "usage_bytes": sum(m.bytes for m in store.members.values()),
        "file_counts": {**counts, "cancelled": 0, "total": len(store.members)},
        "status": "in_progress" if counts["in_progress"] else "completed",
        "expires_after": None,
        "expires_at": None,
    }


def member_to_openai(store_id: str, member: Member) -> dict[str, Any]:
    """A file of a store, in OpenAI's shape."""
    return {
        "id": member.file_id,
        "object": "vector_store.file",
        "created_at": member.created_at,
        "vector_store_id": store_id,
        "status": member.status,
        "usage_bytes": member.bytes,
        "attributes": member.attributes,
        "last_error": {"code": "invalid_file", "message": member.error} if member.error else None,
    }
