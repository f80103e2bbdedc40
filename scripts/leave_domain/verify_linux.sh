#!/bin/sh
# Whether the computer is in no domain: exit code 0 yes, 1 no, 2 cannot be told.
set -u
if ! command -v realm >/dev/null 2>&1; then
    [ ! -e /etc/krb5.keytab ] || exit 2
    exit 0
fi
joined=$(realm list --name-only) || exit 2
if [ -n "${EXEUNT_DOMAIN:-}" ]; then
    joined=$(printf '%s\n' "$joined" | grep -Fix -e "$EXEUNT_DOMAIN")
fi
[ -z "$joined" ]
