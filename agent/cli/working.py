"""All that a worker does besides the runs: tick the monitors, send mail, look for computers. For `worker` and `serve`."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

import structlog

from agent.access.idempotency import forget_old
from agent.errors import ExeuntError
from agent.installation import Installation
from agent.inventory.contact import probe_contacts
from agent.monitoring.dispatching import dispatch_tick
from agent.monitoring.evaluation import Evaluation
from agent.monitoring.scheduler import MonitorScheduler
from agent.reporting.exit_store import write_due
from agent.reporting.exit_tickets import close_settled
from agent.reporting.summary import summarise_finished
from agent.running.webhook_events import Collector
from agent.running.worker import Worker, settle
from agent.services.handover import erase_over
from agent.services.mail import deliver
from agent.services.webhook_sending import deliver as deliver_webhooks

log = structlog.get_logger()
#: Seconds between two rounds of each duty.
MAIL_SECONDS, SUMMARY_SECONDS, REPORT_SECONDS, PROBE_SECONDS = 5.0, 5.0, 10.0, 120.0
WEBHOOK_SECONDS, KEY_SECONDS = 5.0, 3600.0
HAND_OVER_SECONDS = 60.0
Duty = Callable[[Installation], None]


@dataclass(frozen=True)
class Duties:
    """What this process takes on."""

    monitors: bool = True
    probe: bool = True
    mail: bool = True


@contextmanager
def working(installation: Installation, duties: Duties) -> Iterator[Worker]:
    """Execute runs and do the duties, until the context is left; then what is under way is brought to an end."""
    rounds: dict[str, tuple[Duty, float]] = {
        "summaries": (summarise, SUMMARY_SECONDS), "exit reports": (write_exit_reports, REPORT_SECONDS),
        "webhooks": (Webhooks(), WEBHOOK_SECONDS), "idempotency keys": (forget_keys, KEY_SECONDS),
        "hand-overs": (erase_hand_overs, HAND_OVER_SECONDS),
    }  # fmt: skip
    if duties.monitors and installation.settings.directory_watch_minutes:
        rounds["directories"] = (watch_directories, installation.settings.directory_watch_minutes * 60.0)
    if duties.mail:
        rounds["mail"] = (send_mail, MAIL_SECONDS)
    if duties.probe:
        rounds["probe"] = (probe, PROBE_SECONDS)
    stop = threading.Event()
    with Worker(installation) as running:
        scheduler = _scheduler(installation, running) if duties.monitors else None
        if scheduler is not None:
            scheduler.start()
        threads = [_start(name, duty, seconds, installation, stop) for name, (duty, seconds) in rounds.items()]
        settle()
        log.info("worker_started", executor=running.engine.executor_id, workspace=str(installation.settings.workspace))
        try:
            yield running
        finally:
            log.info("worker_stops")
            stop.set()
            if scheduler is not None:
                scheduler.stop()
            deadline = time.monotonic() + 10
            for thread in threads:
                thread.join(max(0.0, deadline - time.monotonic()))
    log.info("worker_stopped")


def stop_on_signals() -> threading.Event:
    """An event that SIGTERM and SIGINT set; a second signal ends the process at once."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(stop))
    return stop


def _scheduler(installation: Installation, running: Worker) -> MonitorScheduler:
    def on_evaluation(evaluation: Evaluation) -> None:
        done = dispatch_tick(installation, evaluation, running.port)
        log.info(
            "monitor_run", monitor=evaluation.monitor, matched=len(evaluation.matched), opened=evaluation.opened,
            plan=done.stored.id if done.stored else None, state=done.stored.state if done.stored else None,
        )  # fmt: skip

    return MonitorScheduler(installation, on_evaluation)


def _stopper(stop: threading.Event) -> Callable[[int, FrameType | None], None]:
    def on_signal(number: int, frame: FrameType | None) -> None:
        if stop.is_set():
            # Asked a second time: what is under way is recovered by the next worker.
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        stop.set()

    return on_signal


def _start(
    name: str, duty: Duty, seconds: float, installation: Installation, stop: threading.Event
) -> threading.Thread:
    """Do a duty again and again in a thread of its own; what goes wrong is logged, and the next round tries anew."""

    def rounds() -> None:
        while True:
            try:
                duty(installation)
            except ExeuntError as error:
                log.error("duty_failed", duty=name, reason=str(error))
            if stop.wait(seconds):
                return

    thread = threading.Thread(target=rounds, name=f"exeunt-{name}", daemon=True)
    thread.start()
    return thread


def send_mail(installation: Installation) -> None:
    """Send what is due."""
    done = deliver(installation)
    if done.sent or done.failed or done.unknown:
        log.info("mail", sent=len(done.sent), failed=len(done.failed), unknown=len(done.unknown))


def erase_hand_overs(installation: Installation) -> None:
    """Erase the secrets of one-time links that are over."""
    erased = erase_over(installation)
    if erased:
        log.info("hand_overs_erased", number=erased)


def watch_directories(installation: Installation) -> None:
    """Note accounts that were deleted in clients' tenants; a monitor finds them."""
    # Here and not above: msal and its helpers are heavy, and most workers watch nothing.
    from agent.services.microsoft.watching import look_at_all

    for looked in look_at_all(installation):
        if looked.error or looked.deleted:
            log.info("directory_looked_at", client=looked.client_id, deleted=looked.deleted, error=looked.error)


def summarise(installation: Installation) -> None:
    """Summarise plans whose runs are all over."""
    for plan_id in summarise_finished(installation):
        log.info("plan_summarised", plan=plan_id)


def write_exit_reports(installation: Installation) -> None:
    """Write the reports of offboardings of people that are over, and close the tickets of those that left nothing open."""
    for run_id in write_due(installation):
        log.info("exit_report_written", run=run_id)
    for ticket_id in close_settled(installation):
        log.info("offboarding_ticket_closed", ticket=ticket_id)


def probe(installation: Installation) -> None:
    """Note which computers answer, so that `last contact` stays true without an agent of ours on them."""
    found = probe_contacts(installation)
    log.info("probed", answered=found.answered, silent=found.silent)


class Webhooks:
    """Tell those who want to know what ended or is held, and send what waits."""

    def __init__(self) -> None:
        self._collect = Collector()

    def __call__(self, installation: Installation) -> None:
        """One round."""
        self._collect(installation)
        done = deliver_webhooks(installation)
        if done.delivered or done.failed:
            log.info("webhooks", delivered=len(done.delivered), failed=len(done.failed), waiting=len(done.waiting))


def forget_keys(installation: Installation) -> None:
    """Forget what the API answered to calls with an Idempotency-Key more than a day ago."""
    with installation.database.session() as session:
        forget_old(session)
