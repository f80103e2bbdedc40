#!/bin/sh
# Finds or removes the ScreenConnect (CW Control) agent on Linux and on a Mac.
#
# Parameters, from the environment: EXEUNT_MODE detect (default), package or folder; EXEUNT_INSTANCE the instance's 16
# hexadecimal digits, empty for every instance (detect only). One computer may hold agents of several companies.
# Exit code: detect: 0 not installed, 1 installed, 2 cannot be told. Otherwise: 0 done, 1 not done.
# The last line is the answer as JSON: {"found": [{instance, id, version, session, host}], "trouble": ""}.
set -u
LC_ALL=C
DEBIAN_FRONTEND=noninteractive
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL DEBIAN_FRONTEND PATH

MODE=${EXEUNT_MODE:-detect}
INSTANCE=${EXEUNT_INSTANCE:-}
case $INSTANCE in
    *[!0-9a-f]*)
        printf 'no instance: %s\n' "$INSTANCE" >&2
        exit 2
        ;;
esac

has() { command -v "$1" >/dev/null 2>&1; }

is_instance() { # 16 hexadecimal digits, and the one that is wanted
    case $1 in *[!0-9a-f]*) return 1 ;; ????????????????) ;; *) return 1 ;; esac
    [ -z "$INSTANCE" ] || [ "$1" = "$INSTANCE" ]
}

launch_value() { # folder, key: a value of the launch parameters `?e=Access&y=Guest&h=host&p=443&s=guid&...`
    for file in "$1/ClientLaunchParameters.txt" "$1/Contents/Resources/ClientLaunchParameters.txt"; do
        [ -f "$file" ] || continue
        tr '?&\r' '[\n*]' <"$file" | sed -n "s/^$2=\\([A-Za-z0-9.:_-]*\\)\$/\\1/p" | head -n 1
        return
    done
}

folders() { # path of each agent's folder, wanted or not
    for folder in /opt/connectwisecontrol-* /opt/screenconnect-* /Applications/connectwisecontrol-*.app \
        /Applications/screenconnect-*.app; do
        [ -d "$folder" ] && printf '%s\n' "$folder"
    done
    return 0
}

packages() { # name|version of each agent's package, wanted or not
    if has dpkg-query; then
        dpkg-query -W -f='${db:Status-Abbrev}|${binary:Package}|${Version}\n' 'connectwisecontrol-*' 'screenconnect-*' \
            2>/dev/null | sed -n 's/^.[^nc][^|]*|\([^|:]*\)[^|]*|/\1|/p'
    fi
    if has rpm && [ -d "$(rpm --eval '%{_dbpath}')" ]; then
        rpm -qa --qf '%{NAME}|%{VERSION}\n' 'connectwisecontrol-*' 'screenconnect-*'
    fi
    return 0
}

found_json() {
    folders | while IFS= read -r folder; do
        instance=${folder##*-}
        instance=${instance%.app}
        is_instance "$instance" || continue
        printf ', {"instance": "%s", "id": "%s", "version": "", "session": "%s", "host": "%s"}' "$instance" "$folder" \
            "$(launch_value "$folder" s)" "$(launch_value "$folder" h)"
    done
    packages | while IFS='|' read -r package version; do
        instance=${package##*-}
        is_instance "$instance" || continue
        printf ', {"instance": "%s", "id": "%s", "version": "%s", "session": "", "host": ""}' "$instance" "$package" "$version"
    done
}

dpkg_remove() { # name; waits while another installation is under way
    left=300
    while :; do
        said=$(dpkg --remove -- "$1" 2>&1 </dev/null)
        code=$?
        printf '%s\n' "$said"
        case $said in *'locked by another process'*) [ "$left" -gt 0 ] || return "$code" ;; *) return "$code" ;; esac
        sleep 2
        left=$((left - 2))
    done
}

remove_package() {
    worst=0
    for name in "connectwisecontrol-$INSTANCE" "screenconnect-$INSTANCE"; do
        packages | grep -q "^$name|" || continue
        if has dpkg-query && dpkg-query -W -- "$name" >/dev/null 2>&1; then
            dpkg_remove "$name" || worst=1
        else
            rpm -e -- "$name" </dev/null || worst=1
        fi
    done
    return "$worst"
}

stop_service() { # name
    if has launchctl; then
        for list in "/Library/LaunchDaemons/$1".plist "/Library/LaunchDaemons/$1"-*.plist "/Library/LaunchAgents/$1"*.plist; do
            [ -f "$list" ] || continue
            launchctl bootout system "$list" 2>/dev/null || launchctl unload "$list"
            rm -f -- "$list"
        done
        return
    fi
    if [ -d /run/systemd/system ]; then
        systemctl disable --now "$1.service" 2>/dev/null
        rm -f -- "/etc/systemd/system/$1.service"
    fi
    if [ -x "/etc/init.d/$1" ]; then
        "/etc/init.d/$1" stop </dev/null
        has update-rc.d && update-rc.d -f "$1" remove
        rm -f -- "/etc/init.d/$1"
    fi
}

stop_processes() { # ends what runs from a folder; ps shows the program's path, or that of its jar behind java
    ps -A -o pid= -o args= | FOLDER=$1/ SELF=$$ awk '
        $1 != ENVIRON["SELF"] && $1 != "" { pid = $1; $1 = ""; if (index($0, ENVIRON["FOLDER"])) print pid }
    ' | while IFS= read -r process; do
        # Our own pipeline names the folder in no argument; a process that ended meanwhile is as good.
        kill "$process" 2>/dev/null
    done
}

remove_folder() {
    for folder in "/opt/connectwisecontrol-$INSTANCE" "/opt/screenconnect-$INSTANCE" \
        "/Applications/connectwisecontrol-$INSTANCE.app" "/Applications/screenconnect-$INSTANCE.app"; do
        [ -d "$folder" ] || continue
        service=${folder##*/}
        stop_service "${service%.app}"
        stop_processes "$folder"
        rm -rf -- "$folder" || return 1
    done
}

case $MODE in
    detect)
        found=$(found_json)
        printf '{"found": [%s], "trouble": ""}\n' "${found#, }"
        [ -z "$found" ] || exit 1
        exit 0
        ;;
    package | folder)
        if [ -z "$INSTANCE" ]; then
            printf 'the parameter Instance is missing\n' >&2
            exit 2
        fi
        if [ "$MODE" = package ]; then remove_package; else remove_folder; fi
        exit
        ;;
esac
printf 'unknown mode: %s\n' "$MODE" >&2
exit 2
