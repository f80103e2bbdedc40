"""For machines that watch this one: `/healthz`, `/readyz`, `/metrics`."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Iterable, Iterator
from datetime import datetime

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlmodel import Session, col, func, select
from starlette.concurrency import run_in_threadpool
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agent.access.principal import Permission
from agent.access.tokens import principal_of_token
from agent.errors import ExeuntError, Forbidden, NotSignedIn
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.runs import RunState, ScriptRun
from agent.model.tickets import Notification
from agent.model.webhooks import WebhookDelivery
from agent.monitoring.listing import monitor_rows
from agent.running.liveness import Liveness
from agent.web.asking import installation_of, port_of
from agent.web.problems import problem

#: Paths that answer here.
HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"


def install_health(app: FastAPI) -> None:
    """Add the three paths, and the clock around every request."""
    registry = CollectorRegistry()
    seconds = Histogram("exeunt_http_seconds", "Duration of requests", ("method", "route", "status"), registry=registry)
    installation: Installation = app.state.installation
    registry.register(Figures(installation))
    app.state.metrics = registry
    app.add_middleware(Clock, seconds=seconds)
    for path, route in ((HEALTH, healthz), (READY, readyz), (METRICS, metrics)):
        app.add_api_route(path, route, methods=["GET"], include_in_schema=False)


async def healthz() -> Response:
    """The process answers."""
    return JSONResponse({"status": "ok"})


async def readyz(request: Request) -> Response:
    """Whether the database is up to date, the engine can be reached, and a worker is alive; 503 names what is not."""
    faults = await run_in_threadpool(_faults, request)
    return JSONResponse({"status": "ready" if not faults else "not ready", "faults": faults}, 503 if faults else 200)


def _faults(request: Request) -> list[str]:
    installation, found = installation_of(request), []
    try:
        if not installation.database.is_current():
            found.append("database: not up to date; run `exeunt init`")
    except ExeuntError:
        # What is wrong stands in the log; whoever asks here may be anybody.
        found.append("database: not reachable")
    try:
        port_of(request).calls()
    except ExeuntError:
        found.append("engine: not reachable")
    if not found and not Liveness(installation).any_alive():
        found.append("worker: none is alive; start `exeunt worker`")
    return found


async def metrics(request: Request) -> Response:
    """Figures for Prometheus: for a token that may see the whole server, or from this machine where a setting says so."""
    try:
        await run_in_threadpool(_check, request)
    except (NotSignedIn, Forbidden) as error:
        status = 401 if isinstance(error, NotSignedIn) else 403
        return problem(METRICS, status, "Unauthorized" if status == 401 else "Forbidden", str(error))
    content = await run_in_threadpool(generate_latest, request.app.state.metrics)
    return Response(content, media_type=CONTENT_TYPE_LATEST)


def _check(request: Request) -> None:
    installation = installation_of(request)
    if installation.settings.metrics_open and request.client is not None and _is_loopback(request.client.host):
        return
    kind, _, token = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer":
        raise NotSignedIn("`Authorization: Bearer TOKEN` is needed: a token with the scope `see`")
    principal_of_token(installation, token.strip()).require(Permission.SEE)


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Clock:
    """ASGI middleware: how long requests take, by the route's pattern, never by the path that was asked for."""

    def __init__(self, app: ASGIApp, seconds: Histogram) -> None:
        self.app, self.seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, watched)
        finally:
            route = _pattern(scope)
            # An event stream lasts as long as somebody watches.
            if not route.endswith("/events"):
                method = scope["method"] if scope["method"] in _METHODS else "OTHER"
                self.seconds.labels(method, route, str(status)).observe(time.perf_counter() - began)


def _pattern(scope: Scope) -> str:
    """The route's pattern; FastAPI keeps it without the prefix that its router was included with."""
    found = getattr(scope.get("route"), "path", None)
    if found is None:
        return "(none)"
    return f"/api/v1{found}" if scope["path"].startswith("/api/v1/") else str(found)


_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


class Figures(Collector):
    """What the records say at the moment of asking. No client, person or computer is named."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation

    def collect(self) -> Iterable[Metric]:
        """The families of figures."""
        with self.installation.database.reading() as session:
            yield from self._runs(session)
            yield _gauge("exeunt_mail_waiting", "Mail that waits to be sent", _count(session, Notification, "sending"))
            yield _gauge("exeunt_mail_failed", "Mail that was kept as failed", _count(session, Notification, "failed"))
            waiting = _count(session, WebhookDelivery, "waiting")
            yield _gauge("exeunt_webhooks_waiting", "Webhook messages that wait to be sent", waiting)
        yield from self._monitors()

    def describe(self) -> Iterable[Metric]:
        """Nothing: the database need not be there when the application is made."""
        return ()

    def _runs(self, session: Session) -> Iterator[Metric]:
        states = GaugeMetricFamily("exeunt_runs", "Runs by state", labels=["state"])
        query = select(ScriptRun.state, func.count()).where(col(ScriptRun.parent_id).is_(None))
        counts: dict[str, int] = dict(session.exec(query.group_by(col(ScriptRun.state))).all())
        for state in RunState:
            states.add_metric([state.value], counts.get(state.value, 0))
        yield states
        oldest = session.exec(
            select(func.min(ScriptRun.queued_at)).where(
                ScriptRun.state == RunState.QUEUED, col(ScriptRun.parent_id).is_(None)
            )
        ).one()
        yield _gauge("exeunt_queue_age_seconds", "Age of the oldest queued run", _age(oldest) if oldest else 0)

    def _monitors(self) -> Iterator[Metric]:
        age = GaugeMetricFamily("exeunt_monitor_age_seconds", "Time since a monitor's last scan", labels=["monitor"])
        failing = GaugeMetricFamily("exeunt_monitor_rows", "Failing rows of a monitor's last scan", labels=["monitor"])
        errors = GaugeMetricFamily("exeunt_monitor_error", "1 when a monitor's last scan failed", labels=["monitor"])
        for monitor in monitor_rows(self.installation):
            if monitor.last_scan is not None:
                age.add_metric([monitor.name], _age(monitor.last_scan))
            failing.add_metric([monitor.name], monitor.rows or 0)
            errors.add_metric([monitor.name], 1 if monitor.status == "ERROR" else 0)
        yield from (age, failing, errors)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, text, value)


def _count(session: Session, model: type[Notification] | type[WebhookDelivery], state: str) -> int:
    return session.scalar(select(func.count()).select_from(model).where(col(model.state) == state)) or 0


def _age(moment: datetime) -> float:
    return max(0.0, (utcnow() - moment).total_seconds())
