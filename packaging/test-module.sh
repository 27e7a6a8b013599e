#!/bin/sh
# Tests "make module" in a copy: with another path everything builds and the test
# of who may import whom passes, and the way back leaves no difference.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
git clone -q --no-local "$root" "$copy/berth"
cd "$copy/berth"
old=$(sed -n 's/^module //p' go.mod)
new=example.org/somebody/berth
make -s module MODULE=$new
grep -qx "module $new" go.mod
${GO:-go} build ./...
${GO:-go} test -count=1 ./internal/archtest
git -c user.name=test -c user.email=test@example.org commit -qam "module: $new"
make -s module MODULE="$old"
git diff --exit-code HEAD~1
echo "make module: there and back"
