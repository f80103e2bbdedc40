"""The inventory tree: Client > Location > Computer, Contact.

The tables are created by `edf_schema.sql`, which people may query and change by hand; these classes describe the same
tables, and a test holds the two together. Column names are ConnectWise Automate's in lower case, so that unquoted SQL
such as `computers.LastContact` means the same on SQLite and on PostgreSQL.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, ForeignKeyConstraint, UniqueConstraint
from sqlmodel import Field, SQLModel

from agent.model.base import column, moment

CONTACT_STATUSES = ("Active", "On Leave", "Offboarding", "Terminated", "Inactive", "Former Employee")
TERMINATION_TYPES = ("voluntary", "involuntary", "retirement", "contract_end")
EQUIPMENT_STATES = ("assigned", "returned", "missing", "damaged")


class Client(SQLModel, table=True):
    """A company that is looked after."""

    __tablename__ = "clients"
    client_id: int | None = column("clientid", default=None, primary_key=True)
    external_id: str = column("externalid", unique=True)
    name: str
    slug: str = Field(unique=True)


class Location(SQLModel, table=True):
    """A site of a client."""

    __tablename__ = "locations"
    __table_args__ = (UniqueConstraint("locationid", "clientid"),)
    location_id: int | None = column("locationid", default=None, primary_key=True)
    client_id: int = column("clientid", foreign_key="clients.clientid")
    external_id: str = column("externalid", unique=True)
    name: str


class Computer(SQLModel, table=True):
    """A machine at one location. `retired_at` is set when its agent was removed; a retired computer is kept."""

    __tablename__ = "computers"
    #: The location belongs to the computer's client.
    __table_args__ = (ForeignKeyConstraint(["locationid", "clientid"], ["locations.locationid", "locations.clientid"]),)
    computer_id: int | None = column("computerid", default=None, primary_key=True)
    client_id: int = column("clientid", foreign_key="clients.clientid")
    location_id: int = column("locationid")
    external_id: str = column("externalid", unique=True)
    name: str
    os: str = ""
    #: windows, linux or macos; decides which body of a script runs.
    platform: str = "windows"
    domain: str = ""
    user_name: str = column("username", default="")
    is_server: bool = column("isserver", default=False)
    is_probe: bool = column("isprobe", default=False)
    last_contact: datetime | None = moment("lastcontact")
    date_added: datetime | None = moment("dateadded")
    booted_at: datetime | None = moment("bootedat")
    retired_at: datetime | None = moment("retiredat")
    #: local, ssh, winrm, psrp or endpoint; empty: it is not reached from here
    transport: str = ""
    address: str = ""
    port: int | None = None
    credential_id: int | None = column("credentialid", default=None)
    transport_options: dict[str, Any] = column("transportoptions", default_factory=dict, sa_type=JSON)


class AgentComputerData(SQLModel, table=True):
    """When a computer may be alerted on: no alerts at all, or only between two hours of the day (`HH:MM`)."""

    __tablename__ = "agentcomputerdata"
    computer_id: int = column("computerid", primary_key=True, foreign_key="computers.computerid")
    no_alerts: bool = column("noalerts", default=False)
    up_time_start: str | None = column("uptimestart", default=None)
    up_time_end: str | None = column("uptimeend", default=None)


class MaintenanceMode(SQLModel, table=True):
    """A time in which nothing is dispatched to a computer. The spelling of the duration is the original's."""

    __tablename__ = "maintenancemode"
    maintenance_id: int | None = column("maintenanceid", default=None, primary_key=True)
    computer_id: int = column("computerid", foreign_key="computers.computerid")
    time_start: datetime = moment("timestart", required=True)
    #: minutes
    duration: int = column("durration")
    user_id: str = column("userid", default="")

    @property
    def until(self) -> datetime:
        """When it ends. Plain SQL can store a length that no time can hold: that never ends."""
        try:
            return self.time_start + timedelta(minutes=self.duration)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)


class Software(SQLModel, table=True):
    """An application that was seen on a computer, with the uninstall string that was stored for it."""

    __tablename__ = "software"
    __table_args__ = (UniqueConstraint("computerid", "name", "version"),)
    software_id: int | None = column("softwareid", default=None, primary_key=True)
    computer_id: int = column("computerid", foreign_key="computers.computerid")
    name: str
    version: str = ""
    publisher: str = ""
    uninstall_string: str = column("uninstallstring", default="")
    seen_at: datetime | None = moment("seenat")


class Contact(SQLModel, table=True):
    """A person at a client."""

    __tablename__ = "contacts"
    __table_args__ = (ForeignKeyConstraint(["locationid", "clientid"], ["locations.locationid", "locations.clientid"]),)
    contact_id: int | None = column("contactid", default=None, primary_key=True)
    client_id: int = column("clientid", foreign_key="clients.clientid")
    location_id: int | None = column("locationid", default=None)
    external_id: str = column("externalid", unique=True)
    name: str
    first_name: str = column("firstname", default="")
    last_name: str = column("lastname", default="")
    email: str = ""
    upn: str = ""
    employee_id: str = column("employeeid", default="")
    department: str = ""
    job_title: str = column("jobtitle", default="")
    #: Another contact of the same client. The address also of a manager who is no contact here.
    manager_id: int | None = column("managerid", default=None, foreign_key="contacts.contactid")
    manager_email: str = column("manageremail", default="")
    #: One of `CONTACT_STATUSES`.
    status: str = "Active"
    #: Dates are text, YYYY-MM-DD.
    start_date: str | None = column("startdate", default=None)
    termination_date: str | None = column("terminationdate", default=None)
    #: One of `TERMINATION_TYPES`, or empty.
    termination_type: str = column("terminationtype", default="")
    last_working_day: str | None = column("lastworkingday", default=None)
    reason_for_leaving: str = column("reasonforleaving", default="")
    #: Nothing of this person may be deleted.
    legal_hold: bool = column("legalhold", default=False)
    #: Holds administrator rights somewhere: an offboarding waits for an approval.
    is_privileged: bool = column("isprivileged", default=False)
    #: System -> id there.
    external_ids: dict[str, Any] = column("externalids", default_factory=dict, sa_type=JSON)
    #: IANA name; empty: UTC.
    timezone: str = ""


class Equipment(SQLModel, table=True):
    """Something that a person has and must give back: a laptop, a badge, keys."""

    __tablename__ = "equipment"
    equipment_id: int | None = column("equipmentid", default=None, primary_key=True)
    contact_id: int = column("contactid", foreign_key="contacts.contactid")
    external_id: str = column("externalid", unique=True)
    name: str
    kind: str = ""
    serial: str = ""
    asset_tag: str = column("assettag", default="")
    quantity: int = 1
    #: One of `EQUIPMENT_STATES`.
    state: str = "assigned"
    #: YYYY-MM-DD
    due: str | None = None
    returned_at: datetime | None = moment("returnedat")
    #: An amount as digits, such as 1200.50; empty: not known.
    value: str = ""
    note: str = ""


class ComputerGroup(SQLModel, table=True):
    """A named set of computers that monitors can be limited to (CWA: mastergroups)."""

    __tablename__ = "mastergroups"
    group_id: int | None = column("groupid", default=None, primary_key=True)
    full_name: str = column("fullname", unique=True)


class ComputerGroupMember(SQLModel, table=True):
    """A computer in a group (CWA: subgroups and their computers)."""

    __tablename__ = "mastergroupcomputers"
    group_id: int = column("groupid", primary_key=True, foreign_key="mastergroups.groupid")
    computer_id: int = column("computerid", primary_key=True, foreign_key="computers.computerid")
