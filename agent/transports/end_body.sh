# What `sh` runs on the target to end a body: $1 is the process that leads its group, $2 the grace period in seconds.
# SIGTERM to the group and to descendants that left it, SIGKILL when the grace period is over. It exits with 0 when
# nothing of it runs any more. Without `ps` only the group is found, and there is no grace period.
# Joined into one line like prelude.sh.
p=$1; g=$2; f=" $p "; c=1; exec 2>/dev/null;
l=$(ps -A -o pid= -o ppid= -o pgid= || ps -o pid,ppid,pgid);
while [ $c = 1 ]; do c=0; set -- $l;
while [ $# -gt 2 ]; do
case $f in *" $1 "*) ;; *" $2 "*|*" $3 "*) f="$f$1 "; c=1;; esac;
shift 3;
done; done;
all() { kill -s $1 -- -$p || kill -$1 -$p; for x in $f; do kill -$1 $x; done; };
any() { set -- $(ps -A -o pid= -o stat= || ps -o pid,stat);
while [ $# -gt 1 ]; do case $2 in Z*) ;; *) case $f in *" $1 "*) return 0;; esac;; esac; shift 2; done; return 1; };
all TERM;
while any && [ $g -gt 0 ]; do sleep 1; g=$((g - 1)); done;
all KILL; g=5;
while any; do [ $g -gt 0 ] || exit 1; sleep 1; g=$((g - 1)); done;
exit 0
