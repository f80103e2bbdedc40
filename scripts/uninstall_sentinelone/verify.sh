#!/bin/sh
# Whether the SentinelOne agent is gone: exit code 0 yes, 1 no.
set -u
[ ! -e /opt/sentinelone/bin/sentinelctl ] || exit 1
[ "$(uname -s)" != Darwin ] || ! command -v sentinelctl >/dev/null 2>&1
