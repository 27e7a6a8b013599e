#!/bin/sh
# Fails on functions that nothing reaches. What a program of one system alone
# uses is compiled, and tested, on all: a function is dead if it is on each of
# them. The simulation is there for tests, which count for it; what hides a secret
# from whoever prints it is there so that it need not be called. Tests that are
# built by a tag count as well.
#
#   deadcode.sh DEADCODE    the program, golang.org/x/tools/cmd/deadcode
set -eu
deadcode=$1
systems="linux darwin windows"
out=$(mktemp -d)
trap 'rm -rf "$out"' EXIT

# dead SYSTEM FLAG PATTERN prints the dead functions by file and name.
dead() {
	GOOS=$1 CGO_ENABLED=0 "$deadcode" -tags=desktop,wine,e2e,web -f '{{range .Funcs}}{{println .Position.File .Name}}{{end}}' "$2" "$3"
}
n=0
for os in $systems; do
	n=$((n + 1))
	dead "$os" -test=false ./cmd/... >"$out/programs.$os"
done
dead linux -test=true ./... >"$out/tests"
{
	sort "$out"/programs.* | uniq -c | sed -n "s/^ *$n //p" |
		grep -vE '^internal/simcluster/|^agent/secrets/.*\.(String|Format|LogValue)$' || true
	cat "$out/tests"
} | sed '/^$/d' | sort -u >"$out/dead"
[ ! -s "$out/dead" ] || {
	echo "nothing reaches these functions; delete them:" >&2
	sed 's/^/  /' "$out/dead" >&2
	exit 1
}
