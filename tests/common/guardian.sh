#!/bin/sh
# guardian.sh LOG COMMAND... : starts the machine (machine.rs), tells its pid, and kills it once standard input
# ends, however the test has ended. It runs in control groups of its own. A controller that this host uses for
# nothing else is lent to it: on hosts with cgroup v1 it would have none.
trap '' INT TERM HUP
log=$1
shift
groups='' lent=''
while read -r line; do
    case $line in
    0::*)
        at=/sys/fs/cgroup/unified
        [ -d $at ] || at=/sys/fs/cgroup
        ;;
    *:name=systemd:*) at=/sys/fs/cgroup/systemd ;;
    *) continue ;;
    esac
    at=$at${line##*:}
    [ -e "$at/cgroup.procs" ] && mkdir "$at/deia-test-$$" && groups="$groups $at/deia-test-$$"
    if [ -e "$at/cgroup.subtree_control" ] && ! grep -qw hugetlb "$at/cgroup.subtree_control"; then
        echo +hugetlb 2>/dev/null >"$at/cgroup.subtree_control" && lent=$at
    fi
done </proc/self/cgroup
(
    # shellcheck disable=SC2016 # the inner shell's parent
    for group in $groups; do sh -c 'echo $PPID' >"$group/cgroup.procs"; done
    exec "$@" </dev/null >"$log" 2>&1
) &
machine=$!
echo $machine
read -r _
read -r init _ <"/proc/$machine/task/$machine/children"
kill -KILL "${init:-$machine}"
wait $machine
for group in $groups; do find "$group" -depth -type d -exec rmdir {} +; done
[ -z "$lent" ] || echo -hugetlb >"$lent/cgroup.subtree_control"
