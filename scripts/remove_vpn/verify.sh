#!/bin/sh
# Whether the VPN connections are gone: exit code 0 yes, 1 no, 2 cannot be told.
set -u
LC_ALL=C
export LC_ALL
PATH=$PATH:/usr/sbin:/sbin
NAMES=${EXEUNT_NAME:-}
ALL=${EXEUNT_ALL:-0}
list=$(mktemp) || exit 2
trap 'rm -f "$list"' EXIT
if command -v nmcli >/dev/null 2>&1; then
    nmcli -g UUID connection show >"$list" || exit 2
    while IFS= read -r uuid <&3; do
        [ -n "$uuid" ] || continue
        case $(nmcli -e no -g connection.type connection show uuid "$uuid") in vpn | wireguard) ;; *) continue ;; esac
        [ "$ALL" != 1 ] || exit 1
        case ";;$NAMES;;" in *";;$(nmcli -e no -g connection.id connection show uuid "$uuid");;"*) exit 1 ;; esac
    done 3<"$list"
elif command -v scutil >/dev/null 2>&1; then
    scutil --nc list | sed -n 's/^[^"]*"\(.*\)".*/\1/p' >"$list" || exit 2
    while IFS= read -r name <&3; do
        [ "$ALL" != 1 ] || exit 1
        case ";;$NAMES;;" in *";;$name;;"*) exit 1 ;; esac
    done 3<"$list"
fi
exit 0
