"""Models as a request sees them: in the queue of the one local model (`Queued`) or elsewhere (`Watched`), cancelled with the request,
and speaking under the application's own instructions (`Framed`)."""

from baywindow.server.wrapped.base import Cancelled
from baywindow.server.wrapped.framed import Framed
from baywindow.server.wrapped.queued import Queued
from baywindow.server.wrapped.watched import Watched

__all__ = ["Cancelled", "Framed", "Queued", "Watched"]
