#!/bin/sh
# Whether the Mac is in no domain: exit code 0 yes, 1 no, 2 cannot be told.
set -u
PATH=$PATH:/usr/sbin
shown=$(dsconfigad -show) || exit 2
[ -z "$(printf '%s\n' "$shown" | sed -n 's/^Active Directory Domain *= *//p')" ]
