"""The console and the API in one FastAPI application over the verbs of the lower floors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import import_module

import anyio.to_thread
from fastapi import APIRouter, FastAPI
from starlette.staticfiles import StaticFiles

from agent.installation import Installation
from agent.running.engine import EnginePort
from agent.web.api.description import describe
from agent.web.asking import STATIC
from agent.web.faults import install_handlers
from agent.web.guarding import Guard

#: Modules with a `router`: pages for people, routes for programs. A new page is one module and one line.
PAGES = (
    "agent.web.pages.signing",
    "agent.web.pages.welcome",
    "agent.web.pages.account",
    "agent.web.pages.users",
    "agent.web.pages.inventory",
    "agent.web.pages.offboarding_templates",
    "agent.web.pages.wizard",
    "agent.web.pages.offboardings",
    "agent.web.pages.overview",
    "agent.web.pages.plans",
    "agent.web.pages.runs",
)  # fmt: skip
ROUTES = (
    "agent.web.api.clients",
    "agent.web.api.locations",
    "agent.web.api.computers",
    "agent.web.api.contacts",
    "agent.web.api.fields",
    "agent.web.api.transfer",
    "agent.web.api.monitors",
    "agent.web.api.alerts",
    "agent.web.api.scripts",
    "agent.web.api.runs",
    "agent.web.api.plans",
    "agent.web.api.offboardings",
    "agent.web.api.offboarding_templates",
    "agent.web.api.desk",
    "agent.web.api.reports",
    "agent.web.api.audit",
    "agent.web.api.credentials",
    "agent.web.api.properties",
    "agent.web.api.users",
    "agent.web.api.backups",
)  # fmt: skip
#: Requests that are worked on at once; each may take a connection of the database.
THREADS = 12


def create_app(installation: Installation, port: EnginePort | None = None) -> FastAPI:
    """The application. With no port it opens its own, so that released runs reach the engine's queue."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        anyio.to_thread.current_default_thread_limiter().total_tokens = THREADS
        app.state.port = port or EnginePort(installation.settings)
        try:
            yield
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
    for name in PAGES:
        app.include_router(_router(name), include_in_schema=False)
    for name in ROUTES:
        app.include_router(_router(name), prefix="/api/v1")
    describe(app)
    return app


def _router(name: str) -> APIRouter:
    router = import_module(name).router
    assert isinstance(router, APIRouter)
    return router
