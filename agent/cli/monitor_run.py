"""Running a monitor from the command line: what would be done is shown, a person says yes, it is started and followed."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import click

from agent.cli.caller import Caller
from agent.cli.output import clean, counted, say, show_json, show_table, tell, warn
from agent.cli.progress import Progress, execute, progress
from agent.cli.run import NOT_DONE
from agent.errors import GuardrailRefused, UsageError
from agent.monitoring.dispatching import MonitorRun, fingerprint, run_monitor
from agent.monitoring.evaluation import Evaluation
from agent.reporting.leftovers import leftovers
from agent.running.drafts import DraftedTarget
from agent.running.planning import DraftPlan
from agent.running.previews import planned, planned_step

#: Exit codes (see `exeunt --help`).
FAILED, HELD, NOTHING_MATCHED = 1, 3, 4


@dataclass(frozen=True)
class Options:
    """What the person gave to `exeunt monitor run`."""

    monitor: str
    reset: bool = False
    dry_run: bool = False
    yes: bool = False
    wait: bool = False
    clients: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    reason: str | None = None
    as_json: bool = False


def run_now(caller: Caller, options: Options) -> int:
    """Run a monitor as the person asked; the exit code. Raises UsageError without a terminal and without `--yes`."""
    clients, agreed = options.clients, None
    # A wrong name is told before anything is asked for.
    caller.installation.content.monitor(options.monitor)
    if not options.yes and not options.dry_run:
        if options.as_json or not sys.stdin.isatty():
            raise UsageError(
                "nobody can be asked here: look at it with --dry-run, then give --yes to start it without a question"
            )
        shown = _run(caller, options, dry_run=True)
        show_preview(shown)
        if shown.draft is None or not shown.draft.targets or shown.refusals:
            return _verdict(caller, shown, ())
        clients = _ask(shown.draft, options.clients)
        agreed = fingerprint(shown.draft)
    done = _run(caller, options, dry_run=options.dry_run, clients=clients, agreed=agreed)
    if options.dry_run:
        show_json(document(done, ())) if options.as_json else show_preview(done)
        return _verdict(caller, done, ())
    return _finish(caller, options, done)


def _run(
    caller: Caller, options: Options, *, dry_run: bool, clients: Iterable[str] = (), agreed: str | None = None
) -> MonitorRun:
    return run_monitor(
        caller.installation, options.monitor, actor=caller.actor, reset=options.reset, dry_run=dry_run,
        confirmed=True, confirmed_clients=clients or options.clients, overrides=options.overrides,
        reason=options.reason, agreed=agreed,
    )  # fmt: skip


def _finish(caller: Caller, options: Options, done: MonitorRun) -> int:
    """Follow what was started, if that is wanted, and say what became of it."""
    ids = done.stored.run_ids if done.stored is not None else ()
    if options.wait and ids and done.stored is not None and not done.stored.holds:
        runs: Sequence[Progress] = execute(caller.installation, ids)
    else:
        runs = progress(caller.installation, ids)
    if options.as_json:
        show_json(document(done, runs))
    else:
        _summary(done, runs, options.wait)
    return _verdict(caller, done, runs)


def _verdict(caller: Caller, done: MonitorRun, runs: Sequence[Progress]) -> int:
    for refusal in done.refusals:
        raise GuardrailRefused(
            f"{refusal['reason']}; nothing was started; if it is meant: --override {refusal['guardrail']} --reason TEXT",
            guardrail=refusal["guardrail"],
        )
    if done.stored is not None and done.stored.holds:
        return HELD
    if not done.evaluation.matched and not done.skipped:
        _tell_of_offline(caller, done)
        return NOTHING_MATCHED
    return FAILED if any(r.state in NOT_DONE for r in runs) else 0


def _tell_of_offline(caller: Caller, done: MonitorRun) -> None:
    """Nothing matched: flagged computers that are offline are the usual reason."""
    if done.evaluation.definition.target != "computer":
        return
    with caller.installation.database.reading() as session:
        offline = len(leftovers(session, caller.installation.settings))
    if offline:
        tell(
            f"{counted(offline, 'flagged computer')} offline: `exeunt edf flags` shows them; without a worker nobody looks "
            "whether they are there: `exeunt inventory probe`"
        )


def document(done: MonitorRun, runs: Sequence[Progress]) -> dict[str, Any]:
    """What `--json` prints."""
    evaluation, stored = done.evaluation, done.stored
    return {
        "monitor": evaluation.definition.name,
        "matched": [_match(m) for m in evaluation.matched],
        "skipped": [{"computer": s["computer"], "reason": s["reason"]} for s in done.skipped],
        "alerts_opened": done.alerts_opened,
        "runs": [{"id": r.id, "computer": r.target, "state": r.state} for r in runs],
        "plan": stored.id if stored else None,
        "holds": list(stored.holds if stored else done.draft.holds if done.draft else ()),
        "refused": list(done.refusals),
        "warnings": list(done.warnings),
        **({"planned": planned(done.draft)} if evaluation.dry_run and done.draft else {}),
    }


def _match(match: Any) -> dict[str, Any]:
    place = match.place
    return {
        "computer": place.name, "client": place.client_name, "location": place.location_name,
        "levels": list(match.row.levels),
    }  # fmt: skip


def step_line(number: int, step: Mapping[str, Any]) -> str:
    """A planned step on one line: what it would do, with which parameters, and under which condition."""
    values = ", ".join(f"{n}={v!r}" for n, v in step["parameters"].items())
    condition = f" ({step['condition']})" if step["condition"] else ""
    return clean(f"{number:>2}. {step['name']}: {step['preview']}" + (f" [{values}]" if values else "") + condition)


#: Level -> its title in a preview, in the order of the titles.
_TITLES = {
    "client": "Flagged by client", "location": "Flagged by location", "computer": "Flagged by computer",
    "contact": "Flagged by contact", "planned": "Planned", "status": "By status", "date": "By termination date",
    "": "Not flagged by a level",
}  # fmt: skip


def show_preview(done: MonitorRun) -> None:
    """Print which places are concerned, by level, and the very steps with their parameters."""
    evaluation = done.evaluation
    say(f"Monitor {evaluation.definition.name}: {_count(len(evaluation.matched), evaluation)} found")
    targets = done.draft.targets if done.draft else ()
    levels = [t.request.levels[0] if t.request.levels else "" for t in targets]
    for level in dict.fromkeys((*(known for known in _TITLES if known in levels), *levels)):
        say("\n" + clean(_TITLES.get(level, f"By {level}")))
        for target, own in zip(targets, levels, strict=True):
            if own == level:
                _show_target(target)
    _show_left_out(done)
    _show_guards(done)


def _count(number: int, evaluation: Evaluation) -> str:
    return counted(number, evaluation.definition.target)


def _show_target(drafted: DraftedTarget) -> None:
    target, run = drafted.target, drafted.run
    client = target.places["client"] or {}
    location = target.places.get("location") or {}
    place = "/".join(str(p["name"]) for p in (client, location) if p)
    say(clean(f"  {place}/{target.name} (id {target.id}, {', '.join(drafted.request.levels) or 'no level'})"))
    children = run.context.get("children")
    if children:
        say(clean(f"    child scripts: {', '.join(c['name'] for c in children['scripts'])}: {children['reason']}"))
    fallback = run.context.get("fallback")
    if fallback:
        say(clean(f"    Failed Uninstall Process: {fallback['option'] or 'nothing selected'}"))
    for number, step in enumerate(run.steps(), 1):
        say("    " + step_line(number, planned_step(step)))


def _show_left_out(done: MonitorRun) -> None:
    if done.skipped:
        say("\nLeft out")
        for left in done.skipped:
            say(clean(f"  {left.get('client')}/{left['computer']}: {left['reason']}"))


def _show_guards(done: MonitorRun) -> None:
    draft = done.draft
    for text in done.warnings:
        warn(text)
    for hold in draft.holds if draft else ():
        tell(f"held: {clean(hold['reason'])} (guardrail: {hold['guardrail']})")
    for refusal in done.refusals:
        tell(f"refused: {clean(refusal['reason'])} (guardrail: {refusal['guardrail']})")


def _ask(draft: DraftPlan, given: tuple[str, ...]) -> tuple[str, ...]:
    """The person says yes, and types the slug of each client that is to be offboarded as a whole; these slugs."""
    click.confirm(f"Start this on {counted(len(draft.targets), 'computer')}?", abort=True, err=True)
    clients = list(given)
    for slug in sorted({t.target.client_slug for t in draft.targets if "client" in t.request.levels} - set(given)):
        typed = click.prompt(f"The whole client {slug!r} is to be offboarded. Type its slug to confirm", err=True)
        if typed != slug:
            raise UsageError(f"{typed!r} is not {slug!r}: nothing was started")
        clients.append(slug)
    return tuple(clients)


def _summary(done: MonitorRun, runs: Sequence[Progress], waited: bool) -> None:
    evaluation, stored = done.evaluation, done.stored
    say(
        f"{evaluation.definition.name}: {_count(len(evaluation.matched), evaluation)} found, {counted(done.alerts_opened, 'new alert')}"
    )
    _show_left_out(done)
    _show_guards(done)
    if runs:
        show_table(("run", "target", "state"), ((r.id, r.name, r.state) for r in runs))
    if stored is not None and stored.holds:
        clients = "".join(f" --confirm-client {h['client']}" for h in stored.holds if h["guardrail"] == "client_flag")
        tell(f"held: nothing was started. To go on: exeunt run approve {stored.id} --reason TEXT{clients}")
    elif runs and not waited:
        tell("a worker executes them: `exeunt worker`; follow them with `exeunt run watch`")
    elif evaluation.matched and not runs and not done.refusals:
        tell(_why_nothing(done))


def _why_nothing(done: MonitorRun) -> str:
    """Rows were found and no run was started: what became of them instead."""
    if done.draft is not None:
        return "nothing was started: all were left out"
    given = sum(o.status == "FAILED" for o in done.evaluation.given)
    if given:
        return f"{counted(given, 'alert')} answered by the alert template, which starts no script now"
    return "nothing was started: every alert was given before (`--reset` forgets that)"
