#!/bin/sh
# Finds and removes one application on a Linux computer, by its exact name: dpkg, RPM, snap, flatpak, or the uninstall
# string that the inventory has stored for it. Runs under dash, bash, busybox sh and zsh as sh.
#
# Parameters, from the environment:
#   EXEUNT_NAME               the exact name; no pattern, no part of a name
#   EXEUNT_MODE               detect (default), remove (by its package manager) or uninstall_string
#   EXEUNT_UNINSTALL_STRINGS  stored uninstall strings, one per line
#   EXEUNT_ALLOW_DEPENDENTS   1 = packages that depend on it may go with it
#   EXEUNT_LOCK_SECONDS       how long to wait for a busy package manager (default 300)
# Exit code: detect: 0 not installed, 1 installed, 2 cannot be told. Otherwise: 0 done, 1 not everything done.
# The last line is the answer as JSON. A record below is `kind|id|version|further facts`.
set -u
LC_ALL=C
DEBIAN_FRONTEND=noninteractive
NEEDRESTART_MODE=l
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:/snap/bin
export LC_ALL DEBIAN_FRONTEND NEEDRESTART_MODE PATH

NAME=${EXEUNT_NAME:?the parameter Name is missing}
MODE=${EXEUNT_MODE:-detect}
STRINGS=${EXEUNT_UNINSTALL_STRINGS:-}
ALLOW_DEPENDENTS=${EXEUNT_ALLOW_DEPENDENTS:-0}
LOCK_SECONDS=${EXEUNT_LOCK_SECONDS:-300}
NEWLINE='
'
TROUBLE=''
ACTIONS=''
INCOMPLETE=0

SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/exeunt.XXXXXX") || exit 2
trap 'rm -rf "$SCRATCH"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

has() { command -v "$1" >/dev/null 2>&1; }

json() { # a text as the inside of a JSON string; control characters become blanks
    printf '%s' "$1" | tr '\000-\037\177' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g'
}

# --- what is installed ------------------------------------------------------------------------------------------------

find_dpkg() {
    has dpkg-query || return 0
    # dpkg-query takes patterns: only what can be a package's name may reach it.
    case $NAME in [!A-Za-z0-9]* | *[!A-Za-z0-9.+_:-]*) return 0 ;; esac
    rows=$(dpkg-query -W -f='${db:Status-Abbrev}|${binary:Package}|${Version}|${Essential}|${Protected}\n' \
        -- "$NAME" 2>"$SCRATCH/dpkg-query")
    code=$?
    if [ "$code" -gt 1 ]; then
        cat "$SCRATCH/dpkg-query" >&2
        TROUBLE="dpkg-query failed with exit code $code"
        return 0
    fi
    while IFS='|' read -r state id version essential protected; do
        case $state in
            ?n* | ?c* | '') ;; # not there, or only its configuration files
            *) printf 'dpkg|%s|%s|%s|%s|%s\n' "$id" "$version" "$state" "$essential" "$protected" ;;
        esac
    done <<ROWS
$rows
ROWS
}

find_rpm() {
    has rpm || return 0
    case $NAME in [!A-Za-z0-9_]* | *[!A-Za-z0-9._+~^-]*) return 0 ;; esac
    base=$(rpm --eval '%{_dbpath}' 2>/dev/null)
    [ -d "$base" ] || return 0
    # rpm also takes name-version: only rows of exactly this name count.
    rows=$(rpm -q --qf '%{NAME}|%{VERSION}-%{RELEASE}|%{NAME}-%{VERSION}-%{RELEASE}.%{ARCH}\n' -- "$NAME" \
        2>"$SCRATCH/rpm")
    code=$?
    if [ "$code" -ne 0 ] && grep -q 'error:' "$SCRATCH/rpm"; then
        cat "$SCRATCH/rpm" >&2
        TROUBLE='the RPM database cannot be read'
        return 0
    fi
    while IFS='|' read -r found version id; do
        [ "$found" = "$NAME" ] && [ -n "$id" ] && printf 'rpm|%s|%s|\n' "$id" "$version"
    done <<ROWS
$rows
ROWS
    return 0
}

find_snap() {
    has snap || return 0
    case $NAME in [!a-z0-9]* | *[!a-z0-9_-]*) return 0 ;; esac
    if snap list "$NAME" >"$SCRATCH/snap" 2>&1 </dev/null; then
        awk -v q="'" 'NR > 1 && ($1 "") == (ENVIRON["EXEUNT_NAME"] "") { print "snap|" $1 "|" $2 "|" $NF }' "$SCRATCH/snap"
    elif ! grep -q 'no matching snaps' "$SCRATCH/snap"; then
        # The daemon does not answer; its files still tell.
        for file in "/var/lib/snapd/snaps/${NAME}_"*.snap; do
            [ -e "$file" ] || continue
            cat "$SCRATCH/snap" >&2
            printf 'snap|%s||\n' "$NAME"
            break
        done
    fi
}

as_user() { # $1 = user, or empty for oneself; then a command
    user=$1
    shift
    if [ -z "$user" ]; then "$@"; else runuser -u "$user" -- env HOME="$USER_HOME" "$@"; fi
}

flatpak_rows() { # $1 = user, or empty
    if ! as_user "$1" flatpak list --app --columns=installation,application,version,name \
        >"$SCRATCH/flatpak" </dev/null; then
        TROUBLE='flatpak cannot list its applications'
        return 0
    fi
    OWNER=$1 awk -F '\t' '
        { name = ENVIRON["EXEUNT_NAME"] "" }
        ($2 "") == name || ($4 "") == name {
            if (ENVIRON["OWNER"] == "" || $1 == "user") print "flatpak|" $2 "|" $3 "|" $1 "|" ENVIRON["OWNER"]
        }' "$SCRATCH/flatpak"
}

find_flatpak() {
    has flatpak || return 0
    USER_HOME=${HOME:-/}
    flatpak_rows ''
    [ "$(id -u)" = 0 ] && has runuser && has getent || return 0
    getent passwd >"$SCRATCH/users"
    while IFS=: read -r user _ number _ _ USER_HOME _; do
        [ "$number" -ne 0 ] && [ -d "$USER_HOME/.local/share/flatpak/app" ] && flatpak_rows "$user"
    done <"$SCRATCH/users"
    return 0
}

split_words() { # the words of a command line, `=<word>` on each line: quotes and backslashes count, nothing is expanded
    LINE=$1 awk 'BEGIN {
        text = ENVIRON["LINE"]; word = ""; begun = 0; quote = ""
        for (i = 1; i <= length(text); i++) {
            c = substr(text, i, 1)
            if (c == "\n") exit 3
            if (quote == "\047") { if (c == quote) quote = ""; else word = word c; continue }
            if (c == "\\") {
                next_c = substr(text, ++i, 1)
                if (next_c == "") exit 3
                if (quote != "" && next_c !~ /["\\$`]/) word = word c
                word = word next_c; begun = 1; continue
            }
            if (c == quote) { quote = ""; continue }
            if (quote == "" && (c == "\"" || c == "\047")) { quote = c; begun = 1; continue }
            if (quote == "" && (c == " " || c == "\t")) { if (begun) print "=" word; word = ""; begun = 0; continue }
            word = word c; begun = 1
        }
        if (quote != "") exit 3
        if (begun) print "=" word
    }'
}

own_path() { # an absolute path that belongs to no part of the system itself
    case $1 in
        */../* | */.. | */./* | *//*) return 1 ;;
        /bin/* | /sbin/* | /lib* | /usr/bin/* | /usr/sbin/* | /usr/lib* | /etc/* | /dev/* | /proc/* | /sys/* | /tmp | /opt) return 1 ;;
        /?*) return 0 ;;
    esac
    return 1
}

# Takes a stored string apart: WORDS, PROGRAM, and MARKER, the application's own file in it. The application
# counts as installed while MARKER exists. Fails with REASON.
parse_string() {
    REASON='' MARKER=''
    if [ -f "$1" ]; then
        WORDS="=$1" # a path with blanks, without quotes
    elif ! WORDS=$(split_words "$1"); then
        REASON='the stored uninstall string has an open quote, a lone backslash or a line break'
        return 1
    fi
    while IFS= read -r word; do
        if own_path "${word#=}"; then
            MARKER=${word#=}
            break
        fi
    done <<WORDS
$WORDS
WORDS
    PROGRAM=${WORDS%%"$NEWLINE"*}
    PROGRAM=${PROGRAM#=}
    case $PROGRAM in
        /*) ;;
        *) REASON='the stored uninstall string does not begin with an absolute path' ;;
    esac
    [ -n "$MARKER" ] || REASON="${REASON:-the stored uninstall string names no file of the application: its removal could not be verified}"
    [ -z "$REASON" ]
}

find_stored() {
    while IFS= read -r string; do
        [ -n "$string" ] || continue
        parse_string "$string" || continue
        [ -e "$MARKER" ] && printf 'stored|%s||\n' "$MARKER"
    done <<STRINGS
$STRINGS
STRINGS
    return 0
}

find_all() { # runs in this shell, so that TROUBLE is kept
    find_dpkg
    find_rpm
    find_snap
    find_flatpak
    find_stored
}

# --- removing ---------------------------------------------------------------------------------------------------------

record() { # kind, id, version, outcome (removed, refused, failed), reason
    [ "$4" = removed ] || INCOMPLETE=1
    printf '%s %s: %s%s\n' "$1" "$2" "$4" "${5:+: $5}"
    ACTIONS="$ACTIONS${ACTIONS:+, }{\"kind\": \"$(json "$1")\", \"id\": \"$(json "$2")\", \"version\": \"$(json "$3")\", \
\"outcome\": \"$4\", \"reason\": \"$(json "${5:-}")\"}"
}

waiting_for_lock() { # runs a command again while the package manager is locked by somebody else
    left=$LOCK_SECONDS
    while :; do
        "$@" 2>"$SCRATCH/errors" </dev/null
        code=$?
        cat "$SCRATCH/errors" >&2
        [ "$code" -ne 0 ] && [ "$left" -gt 0 ] && grep -Eiq 'locked by another process|transaction lock' "$SCRATCH/errors" ||
            return "$code"
        sleep 2
        left=$((left - 2))
    done
}

dependents() { # the names in `a depends on b.` and `b is needed by a`
    sed -n 's/^ *\([^ ]*\) depends on .*/\1/p; s/.* is needed by (installed) \([^ ]*\).*/\1/p' "$SCRATCH/test" |
        sort -u | tr '\n' ' ' | sed 's/ $//'
}

remove_dpkg() { # id, version, state, essential, protected
    if [ "$4" = yes ]; then
        record dpkg "$1" "$2" refused 'it is an essential package of the system'
    elif [ "$5" = yes ]; then
        record dpkg "$1" "$2" refused 'it is a protected package of the system'
    else
        force=''
        case $3 in ??R*) force=--force-remove-reinstreq ;; esac
        if dpkg --no-act $force --remove -- "$1" >"$SCRATCH/test" 2>&1 </dev/null; then
            waiting_for_lock dpkg $force --remove -- "$1"
            code=$?
            if [ "$code" -eq 0 ]; then
                record dpkg "$1" "$2" removed
            else
                record dpkg "$1" "$2" failed "dpkg ended with exit code $code: $(tail -n 3 "$SCRATCH/errors")"
            fi
        elif grep -q 'dependency problems prevent removal' "$SCRATCH/test"; then
            remove_with_dependents "$1" "$2"
        else
            record dpkg "$1" "$2" failed "dpkg would not remove it: $(tail -n 3 "$SCRATCH/test")"
        fi
    fi
}

remove_with_dependents() { # id, version
    others=$(dependents)
    if [ "$ALLOW_DEPENDENTS" != 1 ] || ! has apt-get; then
        record dpkg "$1" "$2" refused "other packages depend on it: $others"
    elif ! apt-get -s remove -- "$1" >"$SCRATCH/apt" 2>&1 </dev/null || grep -q '^Inst ' "$SCRATCH/apt"; then
        record dpkg "$1" "$2" refused "apt-get would not remove it alone with its dependents: $(tail -n 3 "$SCRATCH/apt")"
    elif apt-get -y -o "DPkg::Lock::Timeout=$LOCK_SECONDS" remove -- "$1" </dev/null; then
        record dpkg "$1" "$2" removed "together with: $others"
    else
        record dpkg "$1" "$2" failed "apt-get ended with exit code $?"
    fi
}

is_protected_rpm() {
    case $NAME in rpm | dnf | dnf5 | yum | zypper | glibc | bash | systemd | sudo) return 0 ;; esac
    for file in /etc/dnf/protected.d/*.conf /etc/yum/protected.d/*.conf; do
        [ -f "$file" ] && grep -Fqx -- "$NAME" "$file" && return 0
    done
    return 1
}

remove_rpm() { # id, version
    if is_protected_rpm; then
        record rpm "$1" "$2" refused 'it is a protected package of the system'
    elif rpm -e --test -- "$1" >"$SCRATCH/test" 2>&1 </dev/null; then
        if waiting_for_lock rpm -e -- "$1"; then
            record rpm "$1" "$2" removed
        else
            record rpm "$1" "$2" failed "rpm could not remove it: $(tail -n 3 "$SCRATCH/errors")"
        fi
    elif ! grep -q 'is needed by' "$SCRATCH/test"; then
        record rpm "$1" "$2" failed "rpm would not remove it: $(tail -n 3 "$SCRATCH/test")"
    elif [ "$ALLOW_DEPENDENTS" != 1 ]; then
        record rpm "$1" "$2" refused "other packages depend on it: $(dependents)"
    else
        others=$(dependents)
        if has dnf; then
            dnf -y --setopt=clean_requirements_on_remove=0 remove -- "$1" </dev/null
        elif has zypper; then
            zypper --non-interactive remove -- "$1" </dev/null
        else
            yum -y --setopt=clean_requirements_on_remove=0 remove -- "$1" </dev/null
        fi
        code=$?
        if [ "$code" -eq 0 ]; then
            record rpm "$1" "$2" removed "together with: $others"
        else
            record rpm "$1" "$2" failed "the package manager ended with exit code $code"
        fi
    fi
}

remove_snap() { # id, version, notes
    case ,$3, in
        *,base,* | *,core,* | *,snapd,* | *,kernel,* | *,gadget,* | *,os,*)
            record snap "$1" "$2" refused "it is a part of the system ($3)" ;;
        *)
            if snap remove "$1" </dev/null; then
                record snap "$1" "$2" removed
            else
                record snap "$1" "$2" failed "snap ended with exit code $?"
            fi ;;
    esac
}

remove_flatpak() { # id, version, installation, user
    USER_HOME=${HOME:-/}
    [ -z "$4" ] || USER_HOME=$(getent passwd "$4" | cut -d: -f6)
    case $3 in user | system) where=--$3 ;; *) where=--installation=$3 ;; esac
    if as_user "$4" flatpak uninstall --app --noninteractive -y "$where" "$1" </dev/null; then
        record flatpak "$1" "$2" removed
    else
        record flatpak "$1" "$2" failed "flatpak ended with exit code $?"
    fi
}

remove_found() {
    # The list is read from a file of its own: what a removal reads must not be the rest of the list.
    printf '%s\n' "$FOUND" >"$SCRATCH/found"
    while IFS='|' read -r kind id version one two three <&3; do
        case $kind in
            dpkg) remove_dpkg "$id" "$version" "$one" "$two" "$three" ;;
            rpm) remove_rpm "$id" "$version" ;;
            snap) remove_snap "$id" "$version" "$one" ;;
            flatpak) remove_flatpak "$id" "$version" "$one" "$two" ;;
        esac
    done 3<"$SCRATCH/found"
}

run_stored() { # one stored string
    if ! parse_string "$1"; then
        record stored "$1" '' refused "$REASON"
    elif [ ! -e "$MARKER" ]; then
        record stored "$1" '' removed 'its uninstaller is already gone'
    elif [ ! -f "$PROGRAM" ] || [ ! -x "$PROGRAM" ]; then
        record stored "$1" '' refused "$PROGRAM is no program that can be run"
    else
        set --
        while IFS= read -r word; do set -- "$@" "${word#=}"; done <<WORDS
$WORDS
WORDS
        (cd / && exec "$@") </dev/null 3<&-
        code=$?
        if [ "$code" -eq 0 ]; then
            record stored "$1" '' removed
        else
            record stored "$1" '' failed "the uninstaller ended with exit code $code"
        fi
    fi
}

reboot_wanted() { [ -e /run/reboot-required ] || [ -e /var/run/reboot-required ]; }

# --- the three modes --------------------------------------------------------------------------------------------------

find_all >"$SCRATCH/all"
FOUND=$(cat "$SCRATCH/all")
case $MODE in
    detect)
        items=''
        while IFS='|' read -r kind id version _; do
            [ -n "$kind" ] || continue
            items="$items${items:+, }{\"kind\": \"$kind\", \"id\": \"$(json "$id")\", \"version\": \"$(json "$version")\"}"
        done <"$SCRATCH/all"
        printf '{"found": [%s], "trouble": "%s"}\n' "$items" "$(json "$TROUBLE")"
        [ -z "$FOUND" ] || exit 1
        [ -z "$TROUBLE" ] || exit 2
        exit 0
        ;;
    remove | uninstall_string)
        wanted_before=0
        reboot_wanted && wanted_before=1
        if [ "$MODE" = remove ]; then
            remove_found
        else
            printf '%s\n' "$STRINGS" >"$SCRATCH/strings"
            while IFS= read -r string <&4; do
                [ -z "$string" ] || run_stored "$string"
            done 4<"$SCRATCH/strings"
        fi
        reboot=false
        [ "$wanted_before" = 0 ] && reboot_wanted && reboot=true
        printf '{"actions": [%s], "reboot": %s}\n' "$ACTIONS" "$reboot"
        exit "$INCOMPLETE"
        ;;
esac
printf 'unknown mode: %s\n' "$MODE" >&2
exit 2
