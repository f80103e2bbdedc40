"""`exeunt worker`: execute runs, tick the monitors, send mail, look for computers; until it is told to stop."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType

import click
import structlog

from agent.cli.caller import Caller, pass_caller
from agent.cli.lazy import Command
from agent.cli.output import tell
from agent.errors import ExeuntError
from agent.installation import Installation
from agent.inventory.contact import probe_contacts
from agent.monitoring.dispatching import dispatch_tick
from agent.monitoring.evaluation import Evaluation
from agent.monitoring.scheduler import MonitorScheduler
from agent.reporting.exit_store import write_due
from agent.reporting.summary import summarise_finished
from agent.running.worker import Worker
from agent.services.mail import deliver

log = structlog.get_logger()
#: Seconds between two rounds of each duty.
MAIL_SECONDS, SUMMARY_SECONDS, REPORT_SECONDS, PROBE_SECONDS = 5.0, 5.0, 10.0, 120.0


@click.command(
    "worker", cls=Command, examples=("exeunt worker", "exeunt --workspace /var/lib/exeunt worker --no-probe")
)
@click.option("--no-monitors", is_flag=True, help="Do not tick the monitors; another worker does.")
@click.option("--no-probe", is_flag=True, help="Do not look for computers from here.")
@click.option("--no-mail", is_flag=True, help="Do not send mail from here.")
@pass_caller
def worker(caller: Caller, no_monitors: bool, no_probe: bool, no_mail: bool) -> None:
    """Execute runs and tick the monitors until SIGTERM or SIGINT; then what is under way is brought to an end.

    A second signal ends it at once: what was under way is taken up by the next worker, nothing is done twice unseen.
    """
    caller.quiet = False
    installation = caller.installation
    duties = {"summaries": (summarise, SUMMARY_SECONDS), "exit reports": (write_exit_reports, REPORT_SECONDS)}
    if not no_mail:
        duties["mail"] = (send_mail, MAIL_SECONDS)
    if not no_probe:
        duties["probe"] = (probe, PROBE_SECONDS)
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stopper(stop))
    with Worker(installation) as running:
        scheduler = None if no_monitors else _scheduler(installation, running)
        if scheduler is not None:
            scheduler.start()
        threads = [_start(name, duty, seconds, installation, stop) for name, (duty, seconds) in duties.items()]
        log.info("worker_started", executor=running.engine.executor_id, workspace=str(installation.settings.workspace))
        tell("the worker is ready; Ctrl-C or SIGTERM stops it")
        while not stop.wait(3600):
            pass
        log.info("worker_stops")
        if scheduler is not None:
            scheduler.stop()
        deadline = time.monotonic() + 10
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
    log.info("worker_stopped")


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


Duty = Callable[[Installation], None]


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


def summarise(installation: Installation) -> None:
    """Summarise plans whose runs are all over."""
    for plan_id in summarise_finished(installation):
        log.info("plan_summarised", plan=plan_id)


def write_exit_reports(installation: Installation) -> None:
    """Write the reports of offboardings of people that are over."""
    for run_id in write_due(installation):
        log.info("exit_report_written", run=run_id)


def probe(installation: Installation) -> None:
    """Note which computers answer, so that `last contact` stays true without an agent of ours on them."""
    found = probe_contacts(installation)
    log.info("probed", answered=found.answered, silent=found.silent)
