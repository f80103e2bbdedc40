#!/bin/sh
# Removes the SentinelOne agent. Exit code: 0 removed or not there, else that of the vendor's tool.
# The vendor takes the passphrase as an argument: an administrator of this computer can see it while the tool runs.
set -u
if [ -x /opt/sentinelone/bin/sentinelctl ]; then
    exec /opt/sentinelone/bin/sentinelctl control uninstall --passphrase "$EXEUNT_PASSPHRASE" </dev/null
fi
if [ "$(uname -s)" = Darwin ] && command -v sentinelctl >/dev/null 2>&1; then
    exec sentinelctl uninstall --passphrase "$EXEUNT_PASSPHRASE" </dev/null
fi
printf 'the SentinelOne agent is not installed\n'
