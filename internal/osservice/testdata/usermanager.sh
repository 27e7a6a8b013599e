#!/bin/sh
# Runs a program as root in namespaces and a control group of its own, in which
# a user's systemd can run beside a machine that may have none. What is started
# here ends with it.
#
#   unshare --mount sh usermanager.sh DIR GROUP PROGRAM [ARG...]
#
# DIR is an empty folder of the caller's with a file "passwd"; GROUP names the
# control group.
set -eu
dir=$1 group=$2
shift 2
if [ "${BERTH_TEST_STAGE:-}" != inner ]; then
	mount --make-rprivate /
	mkdir -p "$dir/cgroup"
	mount -t cgroup2 none "$dir/cgroup"
	mkdir "$dir/cgroup/$group"
	# Without a group of its own the manager would adopt every process of the
	# machine: nothing goes on unless this worked.
	echo $$ >"$dir/cgroup/$group/cgroup.procs"
	grep -q "^0::.*/$group\$" /proc/self/cgroup
	BERTH_TEST_STAGE=inner exec unshare --mount --cgroup --net --pid --fork --kill-child --mount-proc \
		sh "$0" "$dir" "$group" "$@"
fi
[ "$$" = 1 ] && grep -q '^0::/$' /proc/self/cgroup
ip link set lo up # a network of its own: no other program takes the test's ports
umount "$dir/cgroup"
mount -t cgroup2 none /sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/systemd/system /run/user /run/packaged
mount --bind "$dir/passwd" /etc/passwd
mkdir -p /etc/systemd/user
mount --bind /run/packaged /etc/systemd/user
"$@" # not exec: the shell, process 1 in here, reaps what is orphaned
