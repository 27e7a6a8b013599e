#!/bin/sh
# Gives the module another path, everywhere it is written: module.sh NEW. The way
# back is the same with the old path.
set -eu
cd "$(dirname "$0")/.."
new=${1:?usage: module.sh NEW}
case $new in
*[!A-Za-z0-9._/~-]* | /* | */ | '') echo "module: $new is no module's path" >&2; exit 2 ;;
esac
old=$(sed -n 's/^module //p' go.mod)
[ "$old" != "$new" ] || { echo "module: it is $new already"; exit 0; }
[ -z "$(git status --porcelain)" ] || { echo "module: commit your changes first" >&2; exit 1; }

quoted=$(printf '%s' "$old" | sed 's/[.~]/\\&/g')
# Imports and patterns of packages: the path before a slash that a folder of the
# project follows, where no longer path ends with it.
folders=$(git ls-files -- '*.go' | sed -n 's,^\([a-z0-9]*\)/.*,\1,p' | sort -u | tr '\n' '|' | sed 's/|$//')
git ls-files -z -- '*.go' '*.mod' '*.proto' '*.yml' '*.yaml' '*.sh' Makefile .golangci.yml |
	xargs -0 perl -pi -e "s{(?<![\\w./~-])${quoted}/(?=(?:$folders)(?:[/\"'\`\\s;,:)\\]]|\$))}{$new/}g; s{(?<![\\w./~-])${quoted}/(?=\\.\\.\\.)}{$new/}g; s{^module ${quoted}(?=/|\$)}{module $new}"
# In tests: what begins with the path, and names of functions.
git ls-files -z -- '*_test.go' |
	xargs -0 perl -pi -e "s{\"${quoted}/\"}{\"$new/\"}g; s{\"${quoted}/(?=(?:$folders)\.[a-z]+[A-Z])}{\"$new/}g"
perl -pi -e "s{(\\bpkg: )${quoted}(?=[,/\$ ])}{\$1$new}g" .golangci.yml
echo "module: $old is $new now; $(git diff --name-only | wc -l) files have changed"
