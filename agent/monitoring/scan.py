"""One scan against the monitor's alerts: which are opened, given and closed, and what the alert templates do about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, func, select

from agent.alerting.actions import Dispatch, PlannedAction, dispatch
from agent.alerting.occurrences import Occurrence
from agent.content.definitions import AlertTemplateDefinition
from agent.errors import UsageError
from agent.model.monitors import Alert
from agent.monitoring.decision import AlertKey, Decision, OpenAlert, decide
from agent.monitoring.scope import Match, ScopedRows, chunks, groups_of, load_places
from agent.monitoring.setup import MonitorSetup


@dataclass(frozen=True)
class Booked:
    """What was stored, or in a preview would be."""

    opened: int
    closed: int
    #: The alerts that were given.
    given: tuple[Occurrence, ...]
    actions: tuple[PlannedAction, ...]


class Scan:
    """A scan within one transaction. A preview changes nothing; with `reset` it looks as if no alert had been given."""

    def __init__(
        self,
        session: Session,
        setup: MonitorSetup,
        scoped: ScopedRows,
        *,
        now: datetime,
        forget_before: datetime | None,
        preview: bool = False,
        reset: bool = False,
    ) -> None:
        self.session, self.setup, self.now, self.preview = session, setup, now, preview
        self.monitor, self.kind = setup.definition.name, setup.definition.target
        self.forget_before = forget_before
        self.failing: dict[AlertKey, Match] = {m.key: m for m in scoped.matches if m.skipped is None}
        self.skipped = {m.key for m in scoped.matches if m.skipped is not None}
        self.alerts = {} if reset else self._open_alerts()

    def book(self) -> Booked:
        """Open, give, close; then let the templates answer."""
        last = self._last_alerted([k for k in self.failing if k not in self.alerts])
        remembered = {k: OpenAlert(a.alerted_at, a.script_pending) for k, a in self.alerts.items()}
        decision = decide(self.failing, self.skipped, remembered, last, self.setup.style, now=self.now)
        unfinished = self._unfinished_successes()
        closing = [self.alerts[key] for key in sorted(decision.close)]
        if not self.preview:
            self._open(decision, last)
            self._close(closing)
        successes = self._successes([a for a in closing if a.alert_count], scripts_only=False)
        occurrences = [*self._failures(decision), *successes, *self._successes(unfinished, scripts_only=True)]
        dispatches = self._dispatch(occurrences)
        if not self.preview:
            self._remember(occurrences, dispatches, [*self.alerts.values(), *unfinished])
        answered = {key for d in dispatches for key in d.answered}
        return Booked(
            opened=len(decision.open),
            closed=len(decision.close),
            given=tuple(o for o in occurrences if o.key in answered),
            actions=tuple(a for d in dispatches for a in d.actions),
        )

    def _open_alerts(self) -> dict[AlertKey, Alert]:
        found = self.session.exec(select(Alert).where(Alert.monitor == self.monitor, col(Alert.closed_at).is_(None)))
        return {(a.target_id, a.identity): a for a in found if a.target_kind == self.kind}

    def _unfinished_successes(self) -> list[Alert]:
        """Closed alerts whose SUCCESS script is not planned yet: put off, or the process died."""
        found = self.session.exec(select(Alert).where(Alert.monitor == self.monitor, col(Alert.script_pending)))
        return [a for a in found if a.target_kind == self.kind and a.closed_at is not None]

    def _last_alerted(self, keys: Sequence[AlertKey]) -> dict[AlertKey, datetime]:
        """When alerts that are closed by now were last given; the style's period counts from there."""
        last: dict[AlertKey, datetime] = {}
        if self.setup.style.number == 0:
            return last
        for chunk in chunks(sorted({target_id for target_id, _ in keys})):
            found = (
                select(Alert.target_id, Alert.identity, func.max(Alert.alerted_at))
                .where(
                    Alert.monitor == self.monitor, Alert.target_kind == self.kind, col(Alert.target_id).in_(chunk),
                    col(Alert.alerted_at).is_not(None),
                )
                .group_by(col(Alert.target_id), col(Alert.identity))
            )  # fmt: skip
            for target_id, identity, moment in self.session.exec(found):
                if moment is not None and (self.forget_before is None or moment >= self.forget_before):
                    last[(target_id, identity)] = moment
        return last

    def _open(self, decision: Decision, last: Mapping[AlertKey, datetime]) -> None:
        for key in sorted(decision.open):
            self.alerts[key] = Alert(
                monitor=self.monitor, target_kind=self.kind, target_id=key[0], identity=key[1],
                client_id=self.failing[key].place.client_id, opened_at=self.now, alerted_at=last.get(key),
            )  # fmt: skip
            self.session.add(self.alerts[key])
        for key, match in self.failing.items():
            self.alerts[key].test_value = match.row.test_value
        self.session.flush()

    def _close(self, closing: Sequence[Alert]) -> None:
        there = load_places(self.session, self.kind, {a.target_id for a in closing})
        for alert in closing:
            alert.closed_at, alert.script_pending = self.now, False
            alert.closed_because = "success" if alert.target_id in there else "gone"

    def _failures(self, decision: Decision) -> list[Occurrence]:
        told = []
        for key in sorted(decision.give | decision.retry):
            match, alert, retry = self.failing[key], self.alerts.get(key), key in decision.retry
            count = alert.alert_count if alert else 0
            told.append(
                Occurrence(
                    monitor=self.monitor, status="FAILED", place=match.place, identity=key[1],
                    test_value=match.row.test_value, levels=match.row.levels, columns=match.row.columns or {},
                    groups=match.groups, alert_id=alert.id if alert else None,
                    occasion=count if retry else count + 1, scripts_only=retry,
                )
            )  # fmt: skip
        return told

    def _successes(self, alerts: Sequence[Alert], *, scripts_only: bool) -> list[Occurrence]:
        """What is told about alerts whose row is gone; nothing where the place itself is gone."""
        places = load_places(self.session, self.kind, {a.target_id for a in alerts})
        groups = groups_of(self.session, self.setup.definition, places)
        return [
            Occurrence(
                monitor=self.monitor, status="SUCCESS", place=places[a.target_id], identity=a.identity,
                test_value=a.test_value, groups=groups.get(a.target_id, ()), alert_id=a.id, occasion=a.alert_count,
                scripts_only=scripts_only,
            )
            for a in alerts
            if a.target_id in places
        ]  # fmt: skip

    def _dispatch(self, occurrences: Sequence[Occurrence]) -> list[Dispatch]:
        """Each template answers its occurrences together."""
        together: dict[str | None, tuple[AlertTemplateDefinition | None, list[Occurrence]]] = {}
        for occurrence in occurrences:
            template = self.setup.template_for(occurrence.groups)
            together.setdefault(template.name if template else None, (template, []))[1].append(occurrence)
        try:
            return [
                dispatch(
                    self.session,
                    told,
                    template,
                    self.setup.definition,
                    now=self.now,
                    zone=self.setup.zone,
                    preview=self.preview,
                )
                for template, told in together.values()
            ]
        except ValueError as error:
            raise UsageError(f"the monitor {self.monitor!r} cannot alert: {error}") from error

    def _remember(
        self, occurrences: Sequence[Occurrence], dispatches: Sequence[Dispatch], alerts: Sequence[Alert]
    ) -> None:
        """Alerts that were answered count as given; a script is pending until its plan is recorded."""
        by_id = {alert.id: alert for alert in alerts}
        answered = {key for d in dispatches for key in d.answered}
        waiting = {key for d in dispatches for key in d.put_off}
        waiting |= {a.occurrence.key for d in dispatches for a in d.actions if a.request}
        for occurrence in occurrences:
            alert = by_id[occurrence.alert_id]
            given = occurrence.key in answered and not occurrence.scripts_only
            if occurrence.status == "FAILED" and given:
                alert.alerted_at, alert.alert_count = self.now, alert.alert_count + 1
            if occurrence.status == "SUCCESS" or occurrence.scripts_only or given:
                alert.script_pending = occurrence.key in waiting
