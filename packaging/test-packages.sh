#!/bin/sh
# Tests what "make dist" makes: two builds give the same bytes; every package
# holds what it should; the deb installs on this machine, works, and leaves
# nothing behind. It ends with a line of counts.
# shellcheck disable=SC2317 # functions are called by their names, by check
set -eu

here=$(cd "$(dirname "$0")" && pwd)
root=$(dirname "$here")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
passed=0
failed=0

check() { # check WHAT COMMAND...: one test
	what=$1
	shift
	if "$@" >"$work/log" 2>&1; then
		passed=$((passed + 1))
		echo "ok      $what"
	else
		failed=$((failed + 1))
		echo "FAILED  $what"
		sed 's/^/        /' "$work/log"
	fi
}
has() { # has TOOL: says aloud what cannot be tested
	command -v "$1" >/dev/null 2>&1 && return 0
	echo "SKIPPED what needs $1: it is not installed"
	return 1
}

# The same source, built where it is, and in another folder with another umask.
BERTH_VERSION=$(git -C "$root" describe --tags --long --always --dirty --match 'v[0-9]*')
SOURCE_DATE_EPOCH=$(git -C "$root" log -1 --format=%ct)
export BERTH_VERSION SOURCE_DATE_EPOCH
mkdir "$work/elsewhere"
(cd "$root" && git ls-files -z --cached --others --exclude-standard | tar -c --null -T - -f - 2>/dev/null) | tar -x -C "$work/elsewhere" -f -
only=linux/amd64,windows/amd64
flags="-trimpath -buildvcs=false -gcflags=all=-dwarf=false" # those of "make dist", so that the cache serves both
# shellcheck disable=SC2086 # a list on purpose
(cd "$here/dist" && go run $flags . -root "$root" -out "$work/a" -only $only)
# shellcheck disable=SC2086
(umask 077 && cd "$work/elsewhere/packaging/dist" && go run $flags . -root ../.. -out "$work/b" -only $only)

same_sums() {
	for d in a b; do grep -v '\.msi$' "$work/$d/SHA256SUMS" >"$work/$d.sums"; done
	[ "$(wc -l <"$work/a.sums")" -ge 8 ] && diff "$work/a.sums" "$work/b.sums"
}
same_msi() { # but for the codes and the time that wixl makes up
	for d in a b; do
		mkdir -p "$work/msi-$d"
		msiextract -C "$work/msi-$d" "$work/$d"/*.msi >/dev/null
		for table in Component Directory Feature File Registry Shortcut; do
			msiinfo export "$work/$d"/*.msi "$table" | sort
		done >"$work/msi-$d.tables"
	done
	diff -r "$work/msi-a" "$work/msi-b" && diff "$work/msi-a.tables" "$work/msi-b.tables"
}
check "two builds, the same bytes" same_sums
check "the checksums are right" sh -c "cd '$work/a' && sha256sum -c --quiet SHA256SUMS"
if has msiextract && has wixl; then
	check "two MSIs, the same contents" same_msi
	check "the MSI starts agent and tray at login" sh -c \
		"msiinfo export '$work'/a/*.msi Registry | grep -F 'berth.exe\" agent run --quiet' && msiinfo export '$work'/a/*.msi Registry | grep -F 'berth.exe\" tray --quiet'"
	check "the MSI has links followed" sh -c "msiinfo export '$work'/a/*.msi Registry | grep -F 'berth.exe\" link follow -- \"%1\"'"
fi
check "the SBOM names what is linked" grep -q '"purl": "pkg:golang/github.com/spf13/cobra@' "$work"/a/*_linux_amd64.cdx.json

# What must be in every Linux package, and what else by family.
common="usr/bin/berth usr/lib/systemd/user/berth.service usr/share/applications/berth.desktop
	usr/share/applications/berth-link.desktop etc/xdg/autostart/berth-tray.desktop
	usr/share/icons/hicolor/48x48/apps/berth.png usr/share/icons/hicolor/scalable/apps/berth.svg usr/share/man/man1/berth.1.gz
	usr/share/bash-completion/completions/berth usr/share/fish/vendor_completions.d/berth.fish usr/share/doc/berth/THIRD_PARTY_LICENSES"
holds() { # holds LIST FILE...: every FILE is a line of LIST
	list=$1
	shift
	for f in "$@"; do
		grep -qxF "$f" "$list" || { echo "no $f"; return 1; }
	done
}
if has rpm; then
	rpm -qpl "$work"/a/*.rpm 2>/dev/null | sed 's,^/,,' >"$work/rpm.list"
	# shellcheck disable=SC2086 # a list on purpose
	check "the rpm holds everything" holds "$work/rpm.list" $common usr/share/zsh/site-functions/_berth
	check "the rpm does not name the machine that built it" [ "$(rpm -qp --qf '%{BUILDHOST}' "$work"/a/*.rpm 2>/dev/null)" = localhost ]
	check "the rpm keeps a changed autostart entry" sh -c "rpm -qpc '$work'/a/*.rpm | grep -qx /etc/xdg/autostart/berth-tray.desktop"
fi
tar -tzf "$(echo "$work"/a/*.apk)" >"$work/apk.list" 2>/dev/null || true # several streams in one
# shellcheck disable=SC2086
check "the apk holds everything" holds "$work/apk.list" $common usr/share/zsh/site-functions/_berth
if has zstd; then
	zstd -dc "$work"/a/*.pkg.tar.zst | tar -t >"$work/arch.list"
	# shellcheck disable=SC2086
	check "the Arch package holds everything" holds "$work/arch.list" $common usr/share/zsh/site-functions/_berth
fi
tar -tzf "$(echo "$work"/a/*_linux_amd64.tar.gz)" | sed 's,^[^/]*/,,' >"$work/tar.list"
check "the archive holds everything" holds "$work/tar.list" berth README.md LICENSE THIRD_PARTY_LICENSES man/berth.1 completions/_berth
# shellcheck disable=SC2016 # it expands there
has shellcheck && check "shellcheck has nothing to say of the scripts" sh -c 'cd "$1" && git ls-files -z "*.sh" .ci/run | xargs -0 shellcheck' sh "$root"
has lintian && check "lintian has nothing to say" lintian --allow-root --fail-on error,warning "$work"/a/*.deb

finish() {
	echo "$passed passed, $failed failed"
	[ "$failed" -eq 0 ]
	exit
}

# The deb, on this machine.
if [ "$(id -u)" -ne 0 ] || ! has dpkg; then
	echo "SKIPPED the installation: it needs root on a Debian-like system"
	finish
fi
if dpkg -s berth >/dev/null 2>&1 || [ -e /usr/bin/berth ]; then
	echo "SKIPPED the installation: berth is installed here, and a test must not remove it"
	finish
fi
left() { find /etc /usr /var /opt -xdev -name '*berth*' ! -path '/var/log/*' ! -path '/var/cache/man/*' | sort; }
left >"$work/before"
trap 'dpkg --purge berth >/dev/null 2>&1 || true; rm -rf "$work"' EXIT
check "the deb installs" dpkg --install "$work"/a/*.deb
said=$(cd /; berth version)
check "berth version: $said" [ "$said" = "berth $(sed -n 's/^.*berth_\(.*\)_linux_amd64\.tar\.gz$/\1/p' "$work/a/SHA256SUMS")" ]
# Slim images leave manuals out when they install, and replace man.
if [ -e /usr/share/man/man1/berth.1.gz ]; then
	check "man berth" sh -c 'LC_ALL=C man berth | grep -q "local addresses"'
	check "man berth-agent-install" sh -c 'LC_ALL=C man berth-agent-install | grep -q "berth agent install"'
else
	echo "SKIPPED man berth as installed: this machine's dpkg leaves manuals out; reading the page of the package"
	dpkg-deb --fsys-tarfile "$work"/a/*.deb | tar -x -C "$work" -f - ./usr/share/man/man1
	check "man berth" sh -c "LC_ALL=C man -l '$work/usr/share/man/man1/berth.1.gz' | grep -q 'local addresses'"
fi
pages_are_whole() { # every page has all its sections, and none makes man complain
	rm -rf "$work/pages" && mkdir "$work/pages"
	dpkg-deb --fsys-tarfile "$work"/a/*.deb | tar -x -C "$work/pages" -f - ./usr/share/man
	find "$work/pages" -name '*.1.gz' >"$work/pages.list"
	[ "$(wc -l <"$work/pages.list")" -ge 50 ] && [ -e "$work/pages/usr/share/man/man5/berth.yaml.5.gz" ] || return 1
	while IFS= read -r page; do
		for section in NAME SYNOPSIS DESCRIPTION EXAMPLES FILES ENVIRONMENT 'EXIT STATUS' 'SEE ALSO'; do
			zgrep -qi "^\.SH \"*$section" "$page" || { echo "$page has no $section"; return 1; }
		done
	done <"$work/pages.list"
	find "$work/pages" -name '*.gz' -exec sh -c 'for p; do LC_ALL=C.UTF-8 MANROFFSEQ="" MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$p" 2>&1 >/dev/null; done' sh {} + >"$work/warnings"
	cat "$work/warnings"
	[ ! -s "$work/warnings" ]
}
has man && check "the manual is whole" pages_are_whole
cat >"$work/complete.bash" <<'END'
. /usr/share/bash-completion/bash_completion
__load_completion berth || _completion_loader berth
COMP_WORDS=(berth agent uninst) COMP_CWORD=2 COMP_LINE="berth agent uninst" COMP_POINT=18 COMP_TYPE=9
__start_berth
[ "${COMPREPLY[*]% }" = uninstall ]
END
[ ! -e /usr/share/bash-completion/bash_completion ] || check "bash completes" bash "$work/complete.bash"
# shellcheck disable=SC2016 # zsh's own variables
has zsh && check "zsh finds its completion" env HOME="$work" zsh -fc \
	'fpath+=(/usr/share/zsh/vendor-completions); autoload -U compinit && compinit -u -D && [ "$_comps[berth]" = _berth ]'
has fish && check "fish completes" env HOME="$work" XDG_DATA_DIRS=/usr/local/share:/usr/share \
	fish -c 'complete -C"berth agent uninst" | string match -q "uninstall*"'
has desktop-file-validate && check "the desktop entries are valid" desktop-file-validate \
	/usr/share/applications/berth.desktop /usr/share/applications/berth-link.desktop /etc/xdg/autostart/berth-tray.desktop
unit_is_clean() {
	# A page that dpkg left out is this machine's choice, not the unit's fault.
	XDG_RUNTIME_DIR="$work" systemd-analyze verify --user --man=no /usr/lib/systemd/user/berth.service >"$work/verify" 2>&1
	cat "$work/verify"
	! grep -i berth "$work/verify"
}
has systemd-analyze && check "systemd reads the unit" unit_is_clean
check "the deb goes" dpkg --purge berth
left >"$work/after"
check "nothing is left" diff "$work/before" "$work/after"
finish
