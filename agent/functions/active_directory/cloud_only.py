"""People of a hybrid client whose account is in Microsoft 365 alone: their steps in Active Directory have nothing to do.

That nobody was found by a name proves nothing: the person's account may stand there under another one, and would stay open. So
it takes all of this, and whatever cannot be asked or is not said leaves the step the failure that it was:

* the directory was asked, and holds nobody by the mail address, UPN or sAMAccountName;
* Microsoft 365 was asked, and has the account as not synced (`onPremisesSyncEnabled` null or false);
* Microsoft 365 is synced from this directory: an account that it has from there stands below the client's base. A tenant that
  is synced from nowhere knows nothing of a directory beside it;
* the directory holds nobody by the account's other names, by the ids that it had if it was synced once, or nearly by its name.
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from agent.errors import StepError, TransportError
from agent.functions.base import Context, Outcome
from agent.functions.microsoft365.base import find_account, tenant_of
from agent.functions.stored_accounts import CLOUD_ONLY
from agent.model.runs import StepState
from agent.services.directory.names import escape_filter, sid_of
from agent.services.directory.port import Directory
from agent.services.microsoft.graph import get
from agent.services.microsoft.settings import KIND

_SELECT = (
    "id,userPrincipalName,mail,displayName,proxyAddresses,onPremisesSyncEnabled,onPremisesImmutableId,"
    "onPremisesSecurityIdentifier,onPremisesSamAccountName"
)
#: So many synced accounts are looked for in the directory; one that is there is enough.
_SAMPLE = 50


@dataclass(frozen=True)
class CloudOnly:
    """A person whom this directory does not hold, proven as above. `reason`: for people."""

    reason: str

    def skipped(self, asked: str) -> Outcome:
        """The outcome of a step about that name; a deletion after the retention finds it by its result."""
        return Outcome(StepState.SKIPPED, {"reason": self.reason, "asked": asked, CLOUD_ONLY: True})


def proven(context: Context, directory: Directory, asked: str, missing: StepError) -> CloudOnly:
    """The proof that a person is cloud-only. Raises `missing`, the directory's answer, with what speaks against it."""
    if "@" not in asked or context.credential(KIND) is None:
        raise missing
    doubt = _doubt(context, directory, asked)
    if doubt is None:
        return CloudOnly(
            f"cloud-only: {asked} is not synced from a directory, and Active Directory holds nobody by that mail, UPN or "
            "sAMAccountName"
        )
    raise StepError(
        f"{missing}; the person does not count as cloud-only: {doubt}", type=missing.type, code=missing.code,
        impact=missing.impact, remediation=missing.remediation, critical=missing.critical,
    ) from missing  # fmt: skip


def _doubt(context: Context, directory: Directory, asked: str) -> str | None:
    """What speaks against it, None when nothing does. Raises StepError or TransportError of the directory."""
    try:
        with tenant_of(context) as tenant:
            found = find_account(tenant, asked, bound=context)
            user = tenant.graph.call(get("users", found.id, select=_SELECT))
            call = get(
                "users",
                select="id,onPremisesSecurityIdentifier",
                filter="onPremisesSyncEnabled eq true",
                top=str(_SAMPLE),
            )
            synced = tenant.graph.call(call).get("value")
    except (StepError, TransportError) as error:
        return f"Microsoft 365 cannot say whether the account is synced ({error})"
    if "onPremisesSyncEnabled" not in user or not isinstance(synced, list):
        return "Microsoft 365 does not say whether the account is synced"
    if user["onPremisesSyncEnabled"] not in (None, False):
        return f"Microsoft 365 says that {found.upn} is synced from a directory"
    try:
        sids = [
            _sid_is(str(one["onPremisesSecurityIdentifier"]))
            for one in synced
            if one.get("onPremisesSecurityIdentifier")
        ]
    except ValueError as error:
        return f"Microsoft 365 has accounts from a directory that cannot be looked for ({error})"
    if not sids:
        return "Microsoft 365 has no account from a directory, so it knows nothing of accounts in one"
    if not _any(directory, directory.base, sids):
        return f"no account that Microsoft 365 has from a directory stands below {directory.base}"
    return _other_name(context, directory, asked, user)


def _other_name(context: Context, directory: Directory, asked: str, user: Mapping[str, Any]) -> str | None:
    """An account that may be the person's under another name. What stands outside of the client's base is not named."""
    contact = context.places.get("contact") or {}
    proxies = [str(p).partition(":")[2] for p in user.get("proxyAddresses") or () if str(p).lower().startswith("smtp:")]
    given = (asked, user.get("userPrincipalName"), user.get("mail"), contact.get("email"), contact.get("upn"), *proxies)
    addresses = dict.fromkeys(str(a).casefold() for a in given if a)
    exact = [
        f"({name}={escape_filter(a)})" for a in addresses for name in ("mail", "userPrincipalName", "sAMAccountName")
    ]
    exact += [f"(proxyAddresses={escape_filter('smtp:' + a)})" for a in addresses]
    try:
        exact += list(_ids(user))
    except ValueError:
        return "Microsoft 365 has ids of an earlier synchronisation that cannot be looked for"
    if _any(directory, directory.naming_context, exact):
        return "another of its names or ids is that of an account in the domain: look for it, also outside of `base_dn`"
    near: list[str] = []
    for local in dict.fromkeys(a.partition("@")[0] for a in addresses):
        part = escape_filter(local)
        near += [f"(sAMAccountName={escape_filter(local[:20])})", f"(userPrincipalName={part}@*)", f"(mail={part}@*)"]
    shown = dict.fromkeys(str(n).strip() for n in (contact.get("name"), user.get("displayName")) if n)
    near += [f"({name}={escape_filter(n)})" for n in shown for name in ("displayName", "cn")]
    if contact.get("employee_id"):
        number = escape_filter(str(contact["employee_id"]))
        near += [f"(employeeID={number})", f"(employeeNumber={number})"]
    like = _any(directory, directory.base, near)
    return (
        f"{like} is like it: if that is the person's account, name it in the step, or give it the mail address"
        if like
        else None
    )


def _ids(user: Mapping[str, Any]) -> Iterable[str]:
    """What an account that was synced once was in its directory. Raises ValueError for what is none."""
    immutable, sid, sam = (user.get(f"onPremises{n}") for n in ("ImmutableId", "SecurityIdentifier", "SamAccountName"))
    if immutable:
        try:
            anchor = b64decode(str(immutable), validate=True)
        except binascii.Error as error:
            raise ValueError(str(error)) from error
        if len(anchor) != 16:
            raise ValueError("no GUID")
        yield f"(objectGUID={escape_filter(anchor)})"
        yield f"(mS-DS-ConsistencyGuid={escape_filter(anchor)})"
    if sid:
        yield _sid_is(str(sid))
    if sam:
        yield f"(sAMAccountName={escape_filter(str(sam))})"


def _sid_is(text: str) -> str:
    return f"(objectSid={escape_filter(sid_of(text))})"


def _any(directory: Directory, base: str, terms: Iterable[str]) -> str | None:
    """The name of an account that one of the terms fits."""
    found = directory.search(base, f"(&(objectClass=user)(|{''.join(terms)}))", ("objectGUID",), limit=1)
    return found[0].dn if found else None
