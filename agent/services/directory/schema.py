"""What is known of attributes without asking the schema: which every domain has, and which are no text (MS-ADA1 to MS-ADA3)."""

from __future__ import annotations

#: Attributes that Microsoft's own schema has since Windows Server 2012, of those that are asked for.
_COMMON = frozenset(
    name.lower()
    for name in (
        "mail", "userPrincipalName", "sAMAccountName", "objectGUID", "objectSid", "objectClass", "displayName",
        "userAccountControl", "accountExpires", "pwdLastSet", "adminCount", "isCriticalSystemObject", "primaryGroupID",
        "manager", "description", "cn", "name", "distinguishedName", "isDeleted", "isRecycled", "lastKnownParent",
        "msDS-LastKnownRDN", "msDS-EnabledFeature", "lDAPDisplayName", "member", "memberOf", "whenCreated", "whenChanged",
    )
)  # fmt: skip
#: Attributes whose syntax is Integer or LargeInteger, of those that are changed, and their width.
_INTEGERS = {"useraccountcontrol": 32, "accountexpires": 64}
_BOOLEANS = frozenset({"msexchhidefromaddresslists"})


def is_common(attribute: str) -> bool:
    """Whether every domain's schema has the attribute."""
    return attribute.lower() in _COMMON


def integer_bits(attribute: str) -> int | None:
    """The width of an attribute whose values are integers; None when they are not."""
    return _INTEGERS.get(attribute.lower())


def is_boolean(attribute: str) -> bool:
    """Whether an attribute's values are TRUE and FALSE."""
    return attribute.lower() in _BOOLEANS
