#!/bin/sh
# Installs the programs that tests talk to: as root, on Debian and Ubuntu, and only those that are missing.
# Elsewhere it says what is missing; the tests that need it are then skipped, and in CI (CI=true) they fail.
set -eu

# program:package; a program may stand outside of PATH.
NEEDED='
sshd:openssh-server
ssh-keygen:openssh-client
openssl:openssl
rpmbuild:rpm
dash:dash
bash:bash
busybox:busybox
zsh:zsh
shellcheck:shellcheck
chromium:chromium
gcc:gcc
jq:jq
curl:curl
sqlite3:sqlite3
pdftotext:poppler-utils
krb5-config:libkrb5-dev
'
PATH=$PATH:/usr/sbin:/sbin

missing=''
for line in $NEEDED; do
    command -v "${line%%:*}" >/dev/null 2>&1 || missing="$missing ${line##*:}"
done
# The server's programs lie in a folder of their version.
if ! command -v initdb >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then
    missing="$missing postgresql"
fi

# What the extra kerberos is compiled with, if the Python is the system's own.
ls /usr/include/python3*/Python.h >/dev/null 2>&1 || missing="$missing python3-dev"

# A domain controller: parts of it are no programs.
if ! command -v samba >/dev/null 2>&1 || [ ! -d /usr/share/samba/setup ] || ! command -v ldbmodify >/dev/null 2>&1; then
    missing="$missing samba samba-ad-provision samba-dsdb-modules samba-vfs-modules winbind ldb-tools"
fi

if [ -z "$missing" ]; then
    echo "all programs that the tests talk to are here"
    exit 0
fi
if ! command -v apt-get >/dev/null 2>&1 || [ "$(id -u)" != 0 ]; then
    echo "missing for some tests, which are skipped:$missing (as root on Debian or Ubuntu this script installs them)" >&2
    exit 0
fi

# Packages of daemons start them unless this file says no. Only our own is taken away again.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
fi
echo "installing:$missing"
export DEBIAN_FRONTEND=noninteractive
install() {
    # shellcheck disable=SC2086 # the names are words of their own
    apt-get install -y -q --no-install-recommends $missing
}
if ! install >/dev/null 2>&1; then
    apt-get update -q >/dev/null
    install >/dev/null
fi
