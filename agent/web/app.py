"""The console and the API in one FastAPI application over the verbs of the lower floors."""

from __future__ import annotations

import pkgutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache
from importlib import import_module
from types import ModuleType

import anyio
import anyio.to_thread
import structlog
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute
from starlette.staticfiles import StaticFiles

from agent.installation import Installation
from agent.running.engine import EnginePort
from agent.web import api, pages, uploads
from agent.web.api.description import describe
from agent.web.asking import STATIC
from agent.web.faults import install_handlers
from agent.web.guarding import Guard
from agent.web.health import install_health

log = structlog.get_logger()
#: Requests that are worked on at once; each may take a connection of the database.
THREADS = 12


def create_app(installation: Installation, port: EnginePort | None = None) -> FastAPI:
    """The application. With no port it opens its own, so that released runs reach the engine's queue."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.port = port or EnginePort(installation.settings)
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_forget_uploads, installation)
                yield
                group.cancel_scope.cancel()
        finally:
            if port is None:
                app.state.port.close()

    app = FastAPI(
        title="Exeunt", version="1", lifespan=lifespan, docs_url=None, redoc_url=None,
        openapi_url="/api/v1/openapi.json",
        description="Monitor-and-dispatch offboarding. All that the console does, for programs.",
    )  # fmt: skip
    app.state.installation = installation
    app.add_middleware(Guard, settings=installation.settings)
    install_handlers(app)
    app.mount("/static", StaticFiles(directory=STATIC), name="static")
    app.router.routes.extend(_routes())
    install_health(app)
    describe(app)
    return app


async def _forget_uploads(installation: Installation) -> None:
    """Every hour: a file that was uploaded and never confirmed goes, also when nobody uploads another."""
    while True:
        try:
            await anyio.to_thread.run_sync(uploads.sweep, installation.settings)
        except OSError as error:
            log.warning("uploads_not_swept", reason=str(error))
        await anyio.sleep(uploads.KEPT)


@cache
def _routes() -> tuple[BaseRoute, ...]:
    """Every page and every operation of the API.

    At the first request FastAPI works out what each of them takes, 0.2 s for all: once, for every application of a process.
    """
    whole = APIRouter()
    whole.include_router(_router(pages), include_in_schema=False)
    whole.include_router(_router(api), prefix="/api/v1")
    return tuple(whole.routes)


def _router(package: ModuleType) -> APIRouter:
    """The routers of all modules in a package as one: a new page or group of routes is one module.

    What is written out comes before what is a parameter: `/scripts/revisions` before `/scripts/{name}`.
    """
    found = [import_module(f"{package.__name__}.{m.name}") for m in pkgutil.iter_modules(package.__path__)]
    routers = [m.router for m in found if isinstance(getattr(m, "router", None), APIRouter)]
    whole = APIRouter()
    whole.routes.extend(sorted((route for r in routers for route in r.routes), key=_specificity))
    return whole


def _specificity(route: BaseRoute) -> list[bool]:
    return ["{" in segment for segment in getattr(route, "path", "").split("/")]
