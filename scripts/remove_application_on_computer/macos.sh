#!/bin/sh
# Finds and removes one application on a Mac, by its exact name: an application bundle (`Name.app` in an Applications
# folder), an installer package by its receipt's identifier, or the uninstall string that the inventory has stored.
#
# Parameters, from the environment: EXEUNT_NAME, EXEUNT_MODE (detect, remove, uninstall_string),
# EXEUNT_UNINSTALL_STRINGS (one per line). The answer and the exit codes are those of linux.sh.
# A record below is `kind|id|version`; names hold no line break here, and identifiers no `|`.
set -u
LC_ALL=C
PATH=$PATH:/usr/sbin:/sbin
export LC_ALL PATH

NAME=${EXEUNT_NAME:?the parameter Name is missing}
MODE=${EXEUNT_MODE:-detect}
STRINGS=${EXEUNT_UNINSTALL_STRINGS:-}
NEWLINE='
'
TROUBLE='' ACTIONS='' INCOMPLETE=0
SCRATCH=$(mktemp -d "${TMPDIR:-/tmp}/exeunt.XXXXXX") || exit 2
trap 'rm -rf "$SCRATCH"' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

json() { # a text as the inside of a JSON string; control characters become blanks
    printf '%s' "$1" | tr '\000-\037\177' ' ' | sed 's/\\/\\\\/g; s/"/\\"/g'
}

property() { # file, key: a value of a property list, nothing if it has none
    plutil -extract "$2" raw -o - "$1" 2>/dev/null || /usr/libexec/PlistBuddy -c "Print :$2" "$1" 2>/dev/null
}

# --- what is installed ------------------------------------------------------------------------------------------------

find_bundles() {
    case $NAME in */* | . | .. | *"$NEWLINE"* | *'|'*) return 0 ;; esac
    bundle=$NAME.app
    case $NAME in *.app) bundle=$NAME ;; esac
    for folder in /Applications /Users/*/Applications "${HOME:-/var/root}/Applications"; do
        [ -d "$folder/$bundle" ] || continue
        printf 'bundle|%s|%s\n' "$folder/$bundle" \
            "$(property "$folder/$bundle/Contents/Info.plist" CFBundleShortVersionString)"
    done | sort -u # one's own home may be under /Users
}

find_receipt() {
    case $NAME in [!A-Za-z0-9]* | *[!A-Za-z0-9._-]*) return 0 ;; esac
    if ! pkgutil --pkgs >"$SCRATCH/pkgs"; then
        TROUBLE='pkgutil cannot list the receipts'
        return 0
    fi
    grep -Fqx -- "$NAME" "$SCRATCH/pkgs" || return 0
    printf 'receipt|%s|%s\n' "$NAME" "$(pkgutil --pkg-info "$NAME" | sed -n 's/^version: //p')"
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

# As in linux.sh: WORDS, PROGRAM, and MARKER, the application's own file; fails with REASON.
parse_string() {
    REASON='' MARKER=''
    if [ -f "$1" ]; then
        WORDS="=$1"
    elif ! WORDS=$(split_words "$1"); then
        REASON='the stored uninstall string has an open quote, a lone backslash or a line break'
        return 1
    fi
    while IFS= read -r word; do
        case ${word#=} in
            */../* | */.. | */./* | *//*) ;;
            /bin/* | /sbin/* | /usr/bin/* | /usr/sbin/* | /usr/lib* | /System/* | /etc/* | /dev/*) ;;
            /?*)
                MARKER=${word#=}
                break
                ;;
        esac
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
        [ -e "$MARKER" ] && printf 'stored|%s|\n' "$MARKER"
    done <<STRINGS
$STRINGS
STRINGS
    return 0
}

# --- removing ---------------------------------------------------------------------------------------------------------

record() { # kind, id, version, outcome (removed, refused, failed), reason
    [ "$4" = removed ] || INCOMPLETE=1
    printf '%s %s: %s%s\n' "$1" "$2" "$4" "${5:+: $5}"
    ACTIONS="$ACTIONS${ACTIONS:+, }{\"kind\": \"$(json "$1")\", \"id\": \"$(json "$2")\", \"version\": \"$(json "$3")\", \
\"outcome\": \"$4\", \"reason\": \"$(json "${5:-}")\"}"
}

inside() { # whether path $1 is $2 or lies in it
    case $1 in "$2" | "$2"/*) return 0 ;; esac
    return 1
}

stop_agents() { # ends and removes the launchd agents whose program is file $1, or lies in folder $1
    for list in /Library/LaunchDaemons/*.plist /Library/LaunchAgents/*.plist \
        /Users/*/Library/LaunchAgents/*.plist "${HOME:-/var/root}"/Library/LaunchAgents/*.plist; do
        [ -f "$list" ] || continue
        program=$(property "$list" Program)
        [ -n "$program" ] || program=$(property "$list" ProgramArguments.0)
        inside "$program" "$1" || continue
        label=$(property "$list" Label)
        case $list in
            /Library/LaunchDaemons/*) launchctl bootout "system/$label" ;;
            *) launchctl bootout "gui/$(stat -f %u "$list")/$label" || launchctl bootout "gui/$(id -u)/$label" ;;
        esac || printf 'launchd does not run %s\n' "$label"
        rm -f -- "$list"
    done
}

stop_processes() { # ends what runs from folder $1: first politely
    for signal in TERM KILL; do
        ps -axo pid=,comm= | FOLDER=$1/ awk '{
            pid = $1; $1 = ""; program = substr($0, 2)
            if (index(program, ENVIRON["FOLDER"]) == 1) print pid
        }' >"$SCRATCH/processes"
        [ -s "$SCRATCH/processes" ] || return 0
        while IFS= read -r process; do kill -s "$signal" "$process"; done <"$SCRATCH/processes"
        [ "$signal" = KILL ] || sleep 3
    done
}

remove_bundle() { # path, version
    stop_agents "$1"
    stop_processes "$1"
    if rm -rf -- "$1"; then
        record bundle "$1" "$2" removed
    else
        record bundle "$1" "$2" failed 'its folder could not be removed'
    fi
}

remove_receipt() { # identifier, version
    case $1 in
        com.apple.*)
            record receipt "$1" "$2" refused 'it is a part of macOS'
            return
            ;;
    esac
    pkgutil --pkg-info "$1" >"$SCRATCH/info"
    root=$(sed -n 's/^volume: //p' "$SCRATCH/info")
    place=$(sed -n 's/^location: //p' "$SCRATCH/info")
    root=${root%/}/${place#/}
    root=${root%/}
    # Files first; folders afterwards, the deepest first, and only when they are empty.
    if ! pkgutil --only-files --files "$1" >"$SCRATCH/files" || ! pkgutil --only-dirs --files "$1" >"$SCRATCH/folders"; then
        record receipt "$1" "$2" failed 'its receipt cannot be read'
        return
    fi
    left=''
    while IFS= read -r file; do
        path=$root/$file
        case $file in '' | */../* | ../*) continue ;; esac
        [ -e "$path" ] || [ -L "$path" ] || continue
        # A file that another package owns too stays.
        others=$(pkgutil --file-info "$path" | sed -n 's/^pkgid: //p' | grep -Fvx -- "$1")
        [ -z "$others" ] || continue
        stop_agents "$path"
        rm -f -- "$path" || left=$path
    done <"$SCRATCH/files"
    sort -r "$SCRATCH/folders" | while IFS= read -r folder; do
        case $folder in '' | */../* | ../*) continue ;; esac
        [ -d "$root/$folder" ] && rmdir -- "$root/$folder" 2>/dev/null
    done
    if [ -n "$left" ]; then
        record receipt "$1" "$2" failed "a file could not be removed: $left"
    elif pkgutil --forget "$1"; then
        record receipt "$1" "$2" removed
    else
        record receipt "$1" "$2" failed 'its receipt could not be forgotten'
    fi
}

remove_found() {
    while IFS='|' read -r kind id version <&3; do
        case $kind in
            bundle) remove_bundle "$id" "$version" ;;
            receipt) remove_receipt "$id" "$version" ;;
        esac
    done 3<"$SCRATCH/all"
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
        (cd / && exec "$@") </dev/null
        code=$?
        if [ "$code" -eq 0 ]; then
            record stored "$1" '' removed
        else
            record stored "$1" '' failed "the uninstaller ended with exit code $code"
        fi
    fi
}

# --- the three modes --------------------------------------------------------------------------------------------------

{
    find_bundles
    find_receipt
    find_stored
} >"$SCRATCH/all"
case $MODE in
    detect)
        items=''
        while IFS='|' read -r kind id version; do
            items="$items${items:+, }{\"kind\": \"$kind\", \"id\": \"$(json "$id")\", \"version\": \"$(json "$version")\"}"
        done <"$SCRATCH/all"
        printf '{"found": [%s], "trouble": "%s"}\n' "$items" "$(json "$TROUBLE")"
        [ -z "$items" ] || exit 1
        [ -z "$TROUBLE" ] || exit 2
        exit 0
        ;;
    remove | uninstall_string)
        if [ "$MODE" = remove ]; then
            remove_found
        else
            printf '%s\n' "$STRINGS" >"$SCRATCH/strings"
            while IFS= read -r string <&4; do
                [ -z "$string" ] || run_stored "$string"
            done 4<"$SCRATCH/strings"
        fi
        printf '{"actions": [%s], "reboot": false}\n' "$ACTIONS"
        exit "$INCOMPLETE"
        ;;
esac
printf 'unknown mode: %s\n' "$MODE" >&2
exit 2
