"""An exit report as people read it: titles, figures and blocks, from which the HTML page and the PDF are both made."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agent.reporting.words import moment_text

#: Words that are not what their field's name says in lower case.
_WORDS = {
    "ou": "OU", "mfa": "MFA", "gb": "GB", "dn": "DN", "id": "id", "vpn": "VPN", "psa": "PSA", "hr": "HR", "it": "IT",
    "sku": "SKU", "active": "Active", "directory": "Directory", "microsoft365": "Microsoft 365", "onedrive": "OneDrive", "sharepoint": "SharePoint",
}  # fmt: skip


@dataclass(frozen=True)
class Block:
    """A part of the report: pairs of name and value, or a table. `unmeasured`: names of what nobody measured."""

    title: str
    pairs: Sequence[tuple[str, str]] = ()
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    unmeasured: Sequence[str] = ()


@dataclass(frozen=True)
class View:
    """The whole report."""

    title: str
    state: str
    under: Sequence[str]
    warnings: Sequence[str]
    figures: Sequence[tuple[str, str]]
    blocks: Sequence[Block]
    foot: str
    actions: Sequence[str] = field(default=())


def view_of(document: Mapping[str, Any], client: str) -> View:
    """The view of a document of `exit_report.exit_document`. `client`: the client's name."""
    info, audit = document["employee_info"], document["audit_trail"]
    state = "succeeded" if document["success"] else "partial" if document.get("partial_completion") else "failed"
    return View(
        title=info["full_name"],
        state=state,
        under=[t for t in (client, info["job_title"], moment_text(audit["completed_timestamp"])) if t],
        warnings=list(_warnings(document)),
        figures=list(_figures(document)),
        blocks=[b for b in _blocks(document) if b.pairs or b.rows or b.unmeasured],
        foot=f"{document['offboarding_id']} · run {audit['workflow_run_id']} · all times in UTC",
        actions=document.get("recommended_actions", ()),
    )


def _warnings(document: Mapping[str, Any]) -> Iterator[str]:
    if document.get("data_at_risk"):
        yield "Data is at risk: do not delete the account until it is secured."
    if "account_disabled" in document and document["account_disabled"] is not True:
        known = document["account_disabled"] is False
        yield "An account is still open." if known else "Whether every account is closed is not known."
    if document["compliance_documentation"]["legal_hold"]:
        yield "A legal hold is set: nothing of this person may be deleted."
    escalation = document.get("escalation") or {}
    if escalation.get("escalation_ticket"):
        yield f"Escalated to {escalation['escalated_to']}, ticket {escalation['escalation_ticket']}: {escalation['reason']}"


def _figures(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    summary = document["summary"]
    for name, words in (
        ("offboarding_completion_percentage", "percent done"), ("total_accounts_disabled", "accounts closed"),
        ("total_groups_removed", "groups removed"), ("total_licenses_reclaimed", "licences back"),
        ("pending_manual_tasks", "tasks open"), ("total_assets_pending_return", "things to return"),
    ):  # fmt: skip
        if summary[name] is not None:
            yield str(summary[name]), words


def _blocks(document: Mapping[str, Any]) -> Iterator[Block]:
    failed = [
        [f["step"], f["error"]["type"], f["error"]["message"], f["impact"], f["remediation"], _text(f["critical"])]
        for f in document.get("failed_steps", ())
    ]
    yield Block(
        "What was not done", head=("Step", "Type", "What happened", "Impact", "What to do", "Critical"), rows=failed
    )
    missed = [[n["step"], n["reason"], _text(n["critical"])] for n in document.get("not_reached_steps", ())]
    yield Block("What was not reached", head=("Step", "Why", "Critical"), rows=missed)
    skipped = [[s["step"], s["reason"]] for s in document.get("skipped_steps", ())]
    yield Block("Where there was nothing to do", head=("Step", "Why"), rows=skipped)
    yield _pairs("Person", document["employee_info"])
    for name, found in document["account_actions"].items():
        if name != "business_applications":
            yield _pairs(f"Account: {label(name)}", found)
    applications = document["account_actions"]["business_applications"]
    yield _table("Business applications", [{"application": k, **v} for k, v in applications.items()])
    groups = document["group_memberships_removed"]
    for name in ("active_directory_groups", "microsoft365_groups", "teams_removed"):
        yield _table(label(name), groups[name] or ())
    yield _pairs(
        "Permissions",
        {k: v for k, v in groups.items() if k.endswith(("_removed", "_revoked")) and k != "teams_removed"},
    )
    for name, found in document["data_preservation"].items():
        if name == "application_transfers":
            yield _table("Handed over in applications", found or ())
            continue
        yield _pairs(label(name), {k: v for k, v in found.items() if k != "delegates_granted"})
        yield _table("Delegates", found.get("delegates_granted") or ())
    yield _table("Licences", document["licenses_reclaimed"] or ())
    yield from _assets(document["assets_tracking"])
    told = [
        [
            label(name),
            _text(n["sent"]),
            n.get("recipient") or ", ".join(n.get("recipients") or ()),
            n["reason"] or moment_text(n["sent_timestamp"]),
        ]
        for name, n in document["notifications_sent"].items()
    ]
    yield Block("Who was told", head=("Message", "Sent", "To", "When, or why not"), rows=told)
    for name in ("contact_record", "offboarding_ticket"):
        yield _pairs(label(name), document["psa_updates"][name])
    yield _pairs("Retention and compliance", document["compliance_documentation"])
    yield _table("Verified afterwards", document["verification"])
    yield _pairs("Figures", document["summary"])
    yield _pairs("Audit trail", document["audit_trail"])


def _assets(assets: Mapping[str, Any]) -> Iterator[Block]:
    yield _table("Equipment", assets["equipment_to_return"] or ())
    for name, found in {**assets["access_credentials"], "company_credit_card": assets["company_credit_card"]}.items():
        if found is not None:
            yield _pairs(label(name), found)


def _pairs(title: str, found: Mapping[str, Any]) -> Block:
    measured = [(label(k), _text(v)) for k, v in found.items() if v is not None]
    return Block(title, pairs=measured, unmeasured=[label(k) for k, v in found.items() if v is None])


def _table(title: str, entries: Sequence[Mapping[str, Any]]) -> Block:
    names = list(dict.fromkeys(name for entry in entries for name in entry))
    rows = [["" if entry.get(n) is None else _text(entry[n]) for n in names] for entry in entries]
    return Block(title, head=[label(n) for n in names], rows=rows)


def label(name: str) -> str:
    """`mailbox_size_gb` -> `Mailbox size GB`."""
    words = [_WORDS.get(word, word) for word in name.split("_")]
    text = " ".join(words)
    return text[:1].upper() + text[1:]


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str) and len(value) == 20 and value.endswith("Z") and value[10:11] == "T":
        return moment_text(value)
    return ", ".join(_text(v) for v in value) if isinstance(value, list) else str(value)
