"""Ticking the monitors by APScheduler, whose jobs are rebuilt from the definitions (DESIGN 5.2)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import structlog
from apscheduler.events import EVENT_JOB_ERROR, JobExecutionEvent
from apscheduler.executors.pool import ThreadPoolExecutor
from apscheduler.jobstores.base import JobLookupError
from apscheduler.schedulers.background import BackgroundScheduler
from sqlmodel import col, select, update

from agent.errors import ExeuntError
from agent.installation import Installation
from agent.model.base import utcnow
from agent.model.monitors import MonitorStatus
from agent.monitoring.bookkeeping import store_error
from agent.monitoring.evaluation import Evaluation, evaluate
from agent.monitoring.leadership import leadership
from agent.monitoring.listing import is_enabled
from agent.monitoring.ticks import first_tick, latest_tick, tick_id

#: How often switches and leadership are looked at, in seconds.
REFRESH_SECONDS = 5.0
#: How often the content files are read again.
RELOAD_AFTER = timedelta(minutes=1)
#: Monitors that are evaluated at the same time.
THREADS = 4
_REFRESH = "refresh"
_log = structlog.get_logger(__name__)


class MonitorScheduler:
    """Evaluates the enabled monitors at their intervals and hands each Evaluation to `on_evaluation`.

    A monitor that fails, or whose `on_evaluation` fails, gets its error stored and stops nobody. Nothing is made up for
    when the process was late: missed ticks become one.
    """

    def __init__(
        self,
        installation: Installation,
        on_evaluation: Callable[[Evaluation], object],
        *,
        refresh_seconds: float = REFRESH_SECONDS,
    ) -> None:
        self._installation, self._on_evaluation = installation, on_evaluation
        self._refresh_seconds = refresh_seconds
        self._leader = leadership(installation.database)
        self._scheduled: dict[str, timedelta] = {}
        self._reloaded_at = datetime.min.replace(tzinfo=UTC)
        #: Files that do not load and were told of; each is told once, until it changes.
        self._told: frozenset[str] = frozenset()
        self._scheduler = BackgroundScheduler(
            timezone="UTC",
            executors={"default": ThreadPoolExecutor(THREADS), _REFRESH: ThreadPoolExecutor(1)},
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        )
        self._scheduler.add_listener(self._failed, EVENT_JOB_ERROR)

    def start(self) -> None:
        """Begin to tick, in threads of its own. Raises StoreError when the database does not work."""
        self.refresh()
        self._scheduler.add_job(
            self.refresh, "interval", seconds=self._refresh_seconds, id=_REFRESH, executor=_REFRESH
        )  # fmt: skip
        self._scheduler.start()

    def stop(self) -> None:
        """Stop ticking and wait until the evaluations under way are done."""
        if self._scheduler.running:
            self._scheduler.shutdown(wait=True)
        self._leader.release()

    def refresh(self) -> None:
        """Take over what has changed: definitions, switches, who ticks."""
        leading = self._leader.held()
        wanted = self._wanted() if leading else {}
        for name in [n for n, interval in self._scheduled.items() if wanted.get(n) != interval]:
            self._forget(name)
            if leading:
                self._note_next_scan(name, None)
        for name, interval in wanted.items():
            if name not in self._scheduled:
                self._schedule(name, interval)

    @property
    def scheduled(self) -> frozenset[str]:
        """Names of the monitors that this process ticks."""
        return frozenset(self._scheduled)

    def _wanted(self) -> dict[str, timedelta]:
        if utcnow() - self._reloaded_at > RELOAD_AFTER:
            self._installation.content.reload()
            self._reloaded_at = utcnow()
            self._tell_unreadable()
        with self._installation.database.reading() as session:
            known = {status.monitor: status for status in session.exec(select(MonitorStatus))}
        return {
            m.name: m.definition.interval
            for m in self._installation.content.monitors()
            if is_enabled(m, known.get(m.name))
        }

    def _tell_unreadable(self) -> None:
        faults = frozenset(str(fault) for fault in self._installation.content.unreadable_monitors())
        for fault in sorted(faults - self._told):
            _log.error("a monitor does not run: its file does not load", fault=fault)
        self._told = faults

    def _schedule(self, name: str, interval: timedelta) -> None:
        now = utcnow()
        with self._installation.database.reading() as session:
            status = session.get(MonitorStatus, name)
        first = first_tick(name, interval, status.last_scan if status else None, now)
        self._scheduler.add_job(
            self._tick, "interval", seconds=interval.total_seconds(), start_date=latest_tick(name, interval, now),
            next_run_time=max(first, now), id=_job_id(name), args=(name, interval), replace_existing=True,
        )  # fmt: skip
        self._scheduled[name] = interval
        self._note_next_scan(name, max(first, now))

    def _forget(self, name: str) -> None:
        del self._scheduled[name]
        try:
            self._scheduler.remove_job(_job_id(name))
        except JobLookupError:
            _log.debug("the monitor's job was gone", monitor=name)

    def _tick(self, name: str, interval: timedelta) -> None:
        if not self._leader.held():
            return
        tick = latest_tick(name, interval, utcnow())
        evaluation = evaluate(self._installation, name, actor="system", tick=tick_id(name, tick))
        if name in self._scheduled:
            self._note_next_scan(name, tick + interval)
        if not evaluation.repeated:
            self._on_evaluation(evaluation)

    def _note_next_scan(self, name: str, moment: datetime | None) -> None:
        with self._installation.database.session() as session:
            if session.get(MonitorStatus, name) is None and moment is not None:
                session.add(MonitorStatus(monitor=name))
                session.flush()
            session.execute(update(MonitorStatus).where(col(MonitorStatus.monitor) == name).values(next_scan=moment))

    def _failed(self, event: JobExecutionEvent) -> None:
        """Store what a monitor's job raised, of whatever kind; the others go on."""
        error = event.exception
        _log.error("a monitor's job failed", job=event.job_id, error=f"{type(error).__name__}: {error}")
        name = next((n for n in self._scheduled if _job_id(n) == event.job_id), None)
        if name is None:
            return
        try:
            with self._installation.database.session() as session:
                store_error(session, name, error, now=utcnow())
        except ExeuntError as second:
            _log.error("its error could not be stored", monitor=name, error=str(second))


def _job_id(name: str) -> str:
    return f"monitor:{name}"
