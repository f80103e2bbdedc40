"""What a package needs in the database, compared with what is there: fields, credentials, properties."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlmodel import Session, col, select

from agent.content.packages import CredentialShell, FieldShell, PropertyShell
from agent.errors import NotFound
from agent.installation import Installation
from agent.inventory import extra_fields, field_values
from agent.model.administration import Credential, SystemProperty
from agent.model.fields import ExtraField, ExtraFieldData, FieldType, Form
from agent.services import credentials, properties

Make = Callable[[Session], dict[str, Any]]


@dataclass
class Needs:
    """What would be made, in words, and how."""

    lines: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    refusals: list[str] = field(default_factory=list)
    makes: list[Make] = field(default_factory=list)
    #: Those of the lines that change something for all clients.
    everywhere: list[str] = field(default_factory=list)

    def for_all(self, line: str) -> None:
        """Add a line about something that counts for all clients."""
        self.lines.append(line)
        self.everywhere.append(line)

    def make(self, session: Session) -> dict[str, list[Any]]:
        """Make it all; what was made, by kind, for whoever undoes it."""
        made: dict[str, list[Any]] = {}
        for make in self.makes:
            for kind, what in make(session).items():
                made.setdefault(kind, []).append(what)
        return made


def fields(session: Session, needs: Needs, shells: Sequence[FieldShell], *, actor: str) -> None:
    """Extra fields that are missing; one that is there must have the same type, and gets options that it lacks."""
    for shell in shells:
        form, kind = Form[shell.level.upper()], FieldType[shell.type.upper()]
        known = existing(session, shell)
        if known is None:
            needs.for_all(f"define the {shell.level} field {shell.name!r} ({shell.type})")
            needs.makes.append(_define(shell, form, kind, actor))
        elif known.ftype != kind:
            needs.refusals.append(
                f"there is a {shell.level} field {known.name!r} of the type {FieldType(known.ftype).name.lower()}, "
                f"and the package needs it as {shell.type}"
            )
        elif lacking := [o for o in shell.options if o not in extra_fields.options(known)]:
            needs.for_all(f"give the {shell.level} field {known.name!r} the options {', '.join(lacking)}")
            needs.makes.append(_options(shell, lacking, actor))


def existing(session: Session, shell: FieldShell) -> ExtraField | None:
    """The field of a shell, if there is one."""
    try:
        return extra_fields.get_field(session, Form[shell.level.upper()], shell.name)
    except NotFound:
        return None


def _define(shell: FieldShell, form: Form, kind: FieldType, actor: str) -> Make:
    def make(session: Session) -> dict[str, Any]:
        extra_fields.define(
            session, form=form, name=shell.name, type=kind, section=shell.section, options=shell.options,
            tooltip=shell.tooltip, actor=actor, by_package=True,
        )  # fmt: skip
        if shell.default is not None:
            field_values.set_default(session, form, shell.name, shell.default, actor=actor)
        return {"fields": [shell.level, shell.name]}

    return make


def _options(shell: FieldShell, lacking: Sequence[str], actor: str) -> Make:
    def make(session: Session) -> dict[str, Any]:
        found = extra_fields.get_field(session, Form[shell.level.upper()], shell.name)
        extra_fields.set_options(session, found, [*extra_fields.options(found), *lacking], actor=actor, by_package=True)
        return {"options": [shell.level, shell.name, list(lacking)]}

    return make


def shells(
    session: Session, needs: Needs, wanted: Sequence[CredentialShell], *, client_id: int | None, actor: str
) -> None:
    """Empty credentials of the kinds that the client has none of."""
    for shell in wanted:
        there = _credentials(session, shell.kind, client_id)
        if there:
            waiting = [c.name for c in there if c.secret is None]
            if waiting and len(waiting) == len(there):
                needs.warnings.append(f"the credential {waiting[0]!r} waits for its secret")
            continue
        if shell.optional:
            needs.warnings.append(f"without a credential of the kind {shell.kind} a part of it does not work")
            continue
        taken = session.exec(
            select(Credential.kind).where(Credential.name == shell.name, Credential.client_id == client_id)
        ).first()
        if taken is not None:
            needs.refusals.append(f"the name {shell.name!r} is that of a credential of the kind {taken}")
            continue
        needs.lines.append(f"make the empty credential {shell.name!r} ({shell.kind}), which waits for its secret")
        needs.makes.append(_shell(shell, client_id, actor))


def _credentials(session: Session, kind: str, client_id: int | None) -> Sequence[Credential]:
    scope: Any = col(Credential.client_id).is_(None)
    if client_id is not None:
        scope = scope | (col(Credential.client_id) == client_id)
    return session.exec(select(Credential).where(Credential.kind == kind, scope)).all()


def _shell(shell: CredentialShell, client_id: int | None, actor: str) -> Make:
    def make(session: Session) -> dict[str, Any]:
        made = credentials.add_shell(session, kind=shell.kind, name=shell.name, client_id=client_id, actor=actor)
        return {"credentials": made.id}

    return make


def settings(
    session: Session, installation: Installation, needs: Needs, wanted: Sequence[PropertyShell], *, actor: str
) -> None:
    """System properties that have no value yet."""
    for shell in wanted:
        if session.get(SystemProperty, shell.name) is not None or shell.name in properties.CATALOGUE:
            continue
        if shell.secret:
            needs.warnings.append(f"the property {shell.name} is a secret: `exeunt property set {shell.name} --secret`")
            continue
        needs.for_all(f"set the property {shell.name} to {shell.value!r}")
        needs.makes.append(_property(installation, shell, actor))


def _property(installation: Installation, shell: PropertyShell, actor: str) -> Make:
    def make(session: Session) -> dict[str, Any]:
        properties.set_in(session, installation, shell.name, shell.value, actor=actor)
        return {"properties": [shell.name, shell.value]}

    return make


def unmake(session: Session, made: dict[str, list[Any]], *, actor: str) -> Iterator[str]:
    """Take back what `Needs.make` made, where nobody uses it since; what stays, in words."""
    for level, name in made.get("fields", ()):
        form = Form[level.upper()]
        try:
            found = extra_fields.get_field(session, form, name)
        except NotFound:
            continue
        own = select(ExtraFieldData).where(col(ExtraFieldData.extra_field_id) == found.id, col(ExtraFieldData.id) != 0)
        if session.exec(own.limit(1)).first() is not None:
            yield f"the {level} field {name!r} stays: it has values"
            continue
        extra_fields.remove(session, found, actor=actor, with_values=True, by_package=True)
    for level, name, added in made.get("options", ()):
        yield f"the {level} field {name!r} keeps the options {', '.join(added)}"
    for credential_id in made.get("credentials", ()):
        found_credential = session.get(Credential, credential_id)
        if found_credential is None:
            continue
        if found_credential.secret is not None:
            yield f"the credential {found_credential.name!r} stays: its secret was entered"
        else:
            credentials.remove_in(session, found_credential, actor=actor)
    for name, value in made.get("properties", ()):
        row = session.get(SystemProperty, name)
        if row is not None and row.value != value:
            yield f"the property {name} stays: it was set to something else since"
        elif row is not None:
            properties.unset_in(session, name, actor=actor)
