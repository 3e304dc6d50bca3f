"""The app: routes, guards, errors, and a page at `/` if there is one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import FastAPI
from fastapi.staticfiles import StaticFiles

from baywindow.server import errors
from baywindow.server.guard import Guard
from baywindow.server.routes import chat, completions, files, health, models, stores, studio, tokens
from baywindow.server.service import Service

STUDIO = Path(__file__).parent / "studio"


def make_app(service: Service, *, page: Path = STUDIO) -> FastAPI:
    """The ASGI app of one service, which is closed with it. ``page`` is a folder of static files, served at `/` where it exists."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.stores.resume()
        yield
        if service.upstream is not None:
            await service.upstream.aclose()
        service.close()

    # No docs pages of FastAPI's: they load scripts from elsewhere. No CORS: other sites' pages have no business here.
    app = FastAPI(
        title="Baywindow",
        summary="OpenAI's API with a longer window.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url="/openapi.json",
    )
    app.state.service = service
    errors.install(app)
    for module in (chat, completions, tokens, files, stores, models, health, studio):
        app.include_router(module.router)
    if page.is_dir():
        app.mount("/", StaticFiles(directory=page, html=True, follow_symlink=False), name="studio")
    app.add_middleware(Guard, service=service)
    return app
