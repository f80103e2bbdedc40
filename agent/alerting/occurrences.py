"""What an alert template is told: this monitor, this place, this identity, FAILED or SUCCESS."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["FAILED", "SUCCESS"]
#: Id of the place, identity, status, id of the alert: what tells two occurrences of one monitor run apart.
OccurrenceKey = tuple[int, str, str, int | None]


@dataclass(frozen=True)
class Place:
    """A client, location, computer or contact with the names around it."""

    kind: str
    id: int
    name: str
    client_id: int
    client_name: str
    #: None for a client, and for a contact without a location.
    location_id: int | None = None
    location_name: str | None = None
    retired: bool = False


@dataclass(frozen=True)
class Occurrence:
    """One alert that is given now."""

    monitor: str
    status: Status
    place: Place
    identity: str
    test_value: str | None
    levels: tuple[str, ...] = ()
    #: Further columns of the monitor's row.
    columns: Mapping[str, Any] = field(default_factory=dict)
    #: Groups that the monitor names and the computer is in; they choose the template.
    groups: tuple[str, ...] = ()
    #: None in a preview.
    alert_id: int | None = None
    #: How many times the alert was given, this time included.
    occasion: int = 1
    #: Only its script is still to be planned; the rest was done the first time.
    scripts_only: bool = False

    @property
    def key(self) -> OccurrenceKey:
        """What tells it apart from the others of its monitor run."""
        return self.place.id, self.identity, self.status, self.alert_id

    def variables(self) -> dict[str, Any]:
        """ConnectWise Automate's variables by their names in lower case (facts 11.3). Those that do not apply are absent."""
        place = self.place
        values: dict[str, Any] = {
            "name": self.monitor, "status": self.status, "result": self.test_value, "fieldname": self.identity,
            "clientname": place.client_name, "clientid": place.client_id,
            "locationname": place.location_name, "locationid": place.location_id,
        }  # fmt: skip
        if place.kind in ("computer", "contact"):
            values |= {f"{place.kind}name": place.name, f"{place.kind}id": place.id}
        return {name: value for name, value in values.items() if value is not None or name == "result"}
