"""The document cache: what a model has read of a prompt's beginning is kept, in memory and on disk, for the next prompt that begins so."""

from baywindow.server.prefixes.store import CacheOptions, PrefixStore

__all__ = ["CacheOptions", "PrefixStore"]
