# What `sh` runs first: it reads the parameters and the body from standard input, so that neither ever stands on a
# command line. Lines that begin with # are left out and the others joined by spaces: no single quotes, no exclamation
# marks (the login shell may be a csh), and every line must end where a blank may follow.
#
# Input, one line each: the mark; name and value of each variable; an empty line; `=` and the body, or `@` and the file
# in which it was uploaded. That file is read and removed before the body starts; exit code 125 when it cannot be.
# `\\`, `\n` and `\0ooo` in a value stand for a backslash, a line end and a byte. PATH is hidden while they are decoded:
# a printf that is not built in would show the value on its own command line, and must fail instead.
e() { case $v in *\\*) v=$(PATH=/dev/null; printf "%bx" "$v") || exit 126; v=${v%x};; esac; };
IFS= read -r t || exit 126;
while IFS= read -r n && [ "$n" ]; do
IFS= read -r v || exit 126; e; export "$n=$v";
done;
IFS= read -r v || exit 126; e; unset -f e;
case $v in @*) n=${v#@}; v=$(exec 2>/dev/null; cat <"$n" && rm -f "$n" && rmdir "${n%/*}" && echo x) || exit 125; v=${v%x};;
*) v=${v#?};; esac;
exec 3<&0 </dev/null;
#
# Nothing more comes on standard input. If it ends while this shell is there, our worker or the connection is gone, and
# the process group must not go on unnoticed. The number cannot be another process's: the watcher is of the group.
{ IFS= read -r n <&3; kill -0 $$ && { kill -s KILL -- -$$ || kill -KILL -$$ || kill -KILL $$; }; } >/dev/null 2>&1 &
#
# The first line on standard error tells the process group. The body runs in a subshell so that its `wait` does not
# wait for the watcher and a signal that ends it becomes the exit code 128 + n.
echo "$t $$" >&2;
( unset n t; set --; eval "unset v; $v" ) 3<&-;
exit $?
