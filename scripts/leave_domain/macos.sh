#!/bin/sh
# Takes the Mac out of its Active Directory domain. Exit code: 0 left or in none, 1 failed.
# dsconfigad takes a password on its command line only, so none is given: the Mac leaves by force, and its account stays
# in the directory until somebody removes it there.
set -u
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

joined=$(dsconfigad -show | sed -n 's/^Active Directory Domain *= *//p')
if [ -z "$joined" ]; then
    printf 'the computer is in no domain\n'
    exit 0
fi
if [ -n "${EXEUNT_DOMAIN:-}" ] && ! printf '%s\n' "$joined" | grep -Fqix -e "$EXEUNT_DOMAIN"; then
    printf 'the computer is in %s, not in %s\n' "$joined" "$EXEUNT_DOMAIN" >&2
    exit 1
fi
dsconfigad -remove -force -username none -password none || exit 1
printf 'left %s\n' "$joined"
