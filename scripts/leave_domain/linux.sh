#!/bin/sh
# Takes the computer out of its domain by realmd. Exit code: 0 left or in none, 1 failed, 2 cannot be told.
# The password goes to realm by standard input.
set -u
LC_ALL=C
export LC_ALL
DOMAIN=${EXEUNT_DOMAIN:-}
ACCOUNT=${EXEUNT_USER:-}

if ! command -v realm >/dev/null 2>&1; then
    if [ -e /etc/krb5.keytab ]; then
        printf 'realmd is not installed, and a keytab tells of a domain: leave it by hand\n' >&2
        exit 2
    fi
    printf 'the computer is in no domain\n'
    exit 0
fi
joined=$(realm list --name-only) || exit 2
if [ -z "$joined" ]; then
    printf 'the computer is in no domain\n'
    exit 0
fi
if [ -n "$DOMAIN" ] && ! printf '%s\n' "$joined" | grep -Fqix -e "$DOMAIN"; then
    printf 'the computer is in %s, not in %s\n' "$joined" "$DOMAIN" >&2
    exit 1
fi
printf '%s\n' "${DOMAIN:-$joined}" | while IFS= read -r domain; do
    if [ -n "$ACCOUNT" ]; then
        printf '%s\n' "${EXEUNT_PASSWORD:-}" | realm leave --remove "--user=$ACCOUNT" "$domain" || exit 1
    else
        realm leave "$domain" </dev/null || exit 1
    fi
    printf 'left %s\n' "$domain"
done
