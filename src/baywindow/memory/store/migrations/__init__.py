"""Revisions of the store's tables, run by Alembic when an older store is opened."""
