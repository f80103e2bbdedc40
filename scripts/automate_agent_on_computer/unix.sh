#!/bin/sh
# Looks for the ConnectWise Automate agent on Linux or a Mac, or plants the detached task that removes it.
#
# Parameters, from the environment: EXEUNT_MODE detect (default) or plant; EXEUNT_TOKEN names this removal;
# EXEUNT_FOLDER, EXEUNT_SERVICE, EXEUNT_STATE_FOLDER, EXEUNT_HEALTH_TASKS (joined by ;;), EXEUNT_DELAY (seconds).
# Exit code: detect: 0 the agent is gone, 1 it is there. plant: 0 planted, 1 not planted.
# The last line is the answer as JSON; `marker` is the completion marker of this token: planted, running, done or failed.
set -u
LC_ALL=C
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin
export LC_ALL PATH

MODE=${EXEUNT_MODE:-detect}
TOKEN=${EXEUNT_TOKEN:-none}
FOLDER=${EXEUNT_FOLDER:-/usr/local/ltechagent}
SERVICE=${EXEUNT_SERVICE:-ltechagent}
STATE=${EXEUNT_STATE_FOLDER:-/var/lib/exeunt}
HEALTH_TASKS=${EXEUNT_HEALTH_TASKS:-}
DELAY=${EXEUNT_DELAY:-10}

refuse() {
    printf '%s\n' "$1" >&2
    exit 2
}
case $TOKEN in *[!A-Za-z0-9]*) refuse "no token: $TOKEN" ;; esac
case $SERVICE in '' | -* | *[!A-Za-z0-9@._-]*) refuse "no service: $SERVICE" ;; esac
case $DELAY in '' | *[!0-9]*) refuse "no number of seconds: $DELAY" ;; esac
# The folder is removed as a whole: it must lie below a folder of the system, and be plainly written.
case $FOLDER in
    *[!A-Za-z0-9._/-]* | */ | */.* | *//* | *-/*) refuse "no folder of an agent: $FOLDER" ;;
    /bin/* | /sbin/* | /lib*/* | /etc/* | /dev/* | /proc/* | /sys/* | /boot/* | /usr/bin/* | /usr/sbin/* | /usr/lib*/*)
        refuse "a folder of the system: $FOLDER" ;;
    /?*/?*/?*) ;;
    *) refuse "no folder of an agent: $FOLDER" ;;
esac
MARKER=$STATE/agent-removal-$TOKEN

has() { command -v "$1" >/dev/null 2>&1; }

agent_is_there() {
    [ -e "$FOLDER" ] || [ -e "/etc/init.d/$SERVICE" ] || [ -e "/etc/systemd/system/$SERVICE.service" ] ||
        { [ "$(uname -s)" = Darwin ] && ls /Library/LaunchDaemons/com.labtechsoftware.*.plist >/dev/null 2>&1; }
}

marker() { # what the task has written so far
    if [ -f "$MARKER" ]; then head -n 1 "$MARKER"; else printf 'none'; fi
}

health_is() { # file: whether it would install or start the agent again
    grep -Fq -e "$FOLDER" -- "$1" && return 0
    rest=$HEALTH_TASKS
    while [ -n "$rest" ]; do
        [ "${1##*/}" = "${rest%%;;*}" ] && return 0
        case $rest in *';;'*) rest=${rest#*;;} ;; *) rest='' ;; esac
    done
    return 1
}

remove_health_tasks() { # prints the name of each that was removed; the files are kept beside the marker
    kept=$STATE/health-tasks-$TOKEN
    for file in /etc/cron.d/* /etc/cron.hourly/* /etc/cron.daily/* /etc/cron.weekly/* /etc/cron.monthly/* \
        /etc/systemd/system/*.timer; do
        [ -f "$file" ] || continue
        case $file in
            # What a timer does stands in the service of its name.
            *.timer)
                service=${file%.timer}.service
                health_is "$file" || { [ -f "$service" ] && health_is "$service"; } || continue
                [ -d /run/systemd/system ] && systemctl disable --now "${file##*/}" >/dev/null 2>&1
                ;;
            *) health_is "$file" || continue ;;
        esac
        mkdir -p "$kept" && mv -- "$file" "$kept/" && printf '%s\n' "$file"
    done
    if has crontab && crontab -l >"$STATE/crontab-$TOKEN" 2>/dev/null && grep -Fq -e "$FOLDER" "$STATE/crontab-$TOKEN"; then
        grep -Fv -e "$FOLDER" "$STATE/crontab-$TOKEN" | crontab - && printf 'crontab\n'
    else
        rm -f -- "$STATE/crontab-$TOKEN"
    fi
}

write_task() { # the task itself: constant text, its values come as arguments
    cat >"$1" <<'TASK'
set -u
folder=$1 service=$2 marker=$3 delay=$4
say() {
    printf '%s\n' "$1" >"$marker.new" && mv -f -- "$marker.new" "$marker"
}
from_folder() { # processes whose program lies in the folder
    for link in /proc/[0-9]*/exe; do
        case $(readlink "$link" 2>/dev/null) in "$folder"/*) n=${link#/proc/}; printf '%s\n' "${n%/exe}" ;; esac
    done
    [ -d /proc/self ] || ps -axo pid=,comm= | FOLDER=$folder/ awk '{
        p = $1; $1 = ""; if (index(substr($0, 2), ENVIRON["FOLDER"]) == 1) print p
    }'
}
sleep "$delay"
say running
if command -v launchctl >/dev/null 2>&1; then
    for list in /Library/LaunchDaemons/com.labtechsoftware.*.plist /Library/LaunchAgents/com.labtechsoftware.*.plist; do
        [ -f "$list" ] || continue
        launchctl bootout system "$list" 2>/dev/null || launchctl unload "$list"
        rm -f -- "$list"
    done
elif [ -d /run/systemd/system ]; then
    systemctl disable --now "$service.service"
elif [ -x "/etc/init.d/$service" ]; then
    "/etc/init.d/$service" stop
fi
if [ -x "$folder/uninstaller.sh" ]; then
    (cd "$folder" && ./uninstaller.sh)
    printf 'the uninstaller ended with exit code %s\n' "$?"
fi
for signal in TERM KILL; do
    left=$(from_folder)
    [ -n "$left" ] || break
    for process in $left; do kill -s "$signal" "$process"; done
    sleep 2
done
rm -rf -- "$folder"
rm -f -- "/etc/init.d/$service" "/etc/systemd/system/$service.service"
if [ -e "$folder" ] || [ -n "$(from_folder)" ]; then
    say failed
else
    say done
fi
rm -f -- "$0"
TASK
}

plant() {
    umask 077
    mkdir -p "$STATE" || return 1
    case $(marker) in planted | running) return 0 ;; esac # it is under way already
    remove_health_tasks >"$MARKER.health" || return 1
    write_task "$MARKER.sh" || return 1
    # Before the task: whoever looks after this line finds a marker.
    printf 'planted\n' >"$MARKER.new" && mv -f -- "$MARKER.new" "$MARKER" || return 1
    set -- /bin/sh "$MARKER.sh" "$FOLDER" "$SERVICE" "$MARKER" "$DELAY"
    # Neither the agent's end nor ours may end the task: a unit of its own, else a session of its own.
    if [ -d /run/systemd/system ] && has systemd-run; then
        systemd-run --quiet --collect --unit="exeunt-agent-removal-$TOKEN" "$@" && return 0
    elif has setsid; then
        env -i PATH="$PATH" setsid "$@" </dev/null >"$MARKER.log" 2>&1 &
        return 0
    elif [ "$(uname -s)" = Darwin ]; then
        # A job of launchd: it is nobody's child and forgotten after a restart.
        launchctl submit -l "exeunt.agent-removal.$TOKEN" -o "$MARKER.log" -e "$MARKER.log" -- "$@" && return 0
    fi
    rm -f -- "$MARKER"
    return 1
}

health_json() {
    [ -f "$MARKER.health" ] || return 0
    sed 's/\\/\\\\/g; s/"/\\"/g; s/.*/"&"/' "$MARKER.health" | paste -s -d , -
}

code=0
case $MODE in
    detect) ! agent_is_there || code=1 ;;
    plant)
        if [ "$(id -u)" -ne 0 ]; then
            printf 'only root can remove the agent\n' >&2
            code=1
        elif agent_is_there && ! plant; then
            printf 'the task that removes the agent could not be started\n' >&2
            code=1
        fi
        ;;
    *) refuse "unknown mode: $MODE" ;;
esac
there=false
! agent_is_there || there=true
printf '{"present": %s, "marker": "%s", "health_tasks": [%s]}\n' "$there" "$(marker)" "$(health_json)"
exit "$code"
