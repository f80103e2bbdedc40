#!/bin/sh
# Removes VPN connections: NetworkManager's on Linux, network services on a Mac. Exit code: 0 done, 1 not, 2 cannot.
set -u
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH
NAMES=${EXEUNT_NAME:-}
ALL=${EXEUNT_ALL:-0}
if [ -z "$NAMES" ] && [ "$ALL" != 1 ]; then
    printf 'neither Name nor All is given\n' >&2
    exit 2
fi

wanted() { # name: whether it is one of the exact names
    [ "$ALL" = 1 ] && return 0
    case ";;$NAMES;;" in *";;$1;;"*) return 0 ;; esac
    return 1
}

code=0
list=$(mktemp) || exit 2
trap 'rm -f "$list"' EXIT
if command -v nmcli >/dev/null 2>&1; then
    # One value a line, so that no separator has to be unescaped: identifier, type, name.
    nmcli -g UUID connection show >"$list" || exit 2
    while IFS= read -r uuid <&3; do
        [ -n "$uuid" ] || continue
        type=$(nmcli -e no -g connection.type connection show uuid "$uuid")
        name=$(nmcli -e no -g connection.id connection show uuid "$uuid")
        case $type in vpn | wireguard) ;; *) continue ;; esac
        wanted "$name" || continue
        if nmcli connection delete uuid "$uuid" </dev/null; then
            printf 'removed %s\n' "$name"
        else
            code=1
        fi
    done 3<"$list"
elif command -v scutil >/dev/null 2>&1; then
    scutil --nc list | sed -n 's/^[^"]*"\(.*\)".*/\1/p' >"$list"
    while IFS= read -r name <&3; do
        wanted "$name" || continue
        if networksetup -removenetworkservice "$name" </dev/null; then
            printf 'removed %s\n' "$name"
        else
            code=1
        fi
    done 3<"$list"
else
    printf 'neither NetworkManager nor macOS: there are no VPN connections that this script knows\n'
fi
exit "$code"
