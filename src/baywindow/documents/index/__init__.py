"""The stored index: one LanceDB directory with full text, vectors and the files they came from."""

from baywindow.documents.index.index import Index
from baywindow.documents.index.info import IndexInfo, RootInfo
from baywindow.documents.index.update import Done

__all__ = ["Done", "Index", "IndexInfo", "RootInfo"]
