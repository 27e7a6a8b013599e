#!/bin/sh
# Installs berth from a release: downloads the archive for this system, checks
# its checksum and the signature of the checksums, and puts the program, man
# pages and completions below ~/.local. It asks for no password and starts
# nothing.
#
#   sh install.sh                   install, or upgrade
#   sh install.sh --prefix DIR      below DIR instead of ~/.local
#   sh install.sh --sudo            below /usr/local, with sudo
#   sh install.sh --uninstall       stop the agent and remove what was installed
#   sh install.sh --checksum-only   go on where nothing can check a signature
set -eu

version='@VERSION@'
base='@BASE@'             # where the files of this version are
public_key='@PUBLIC_KEY@' # minisign

say() { printf 'install: %s\n' "$*"; }
die() {
	printf 'install: %s\n' "$*" >&2
	exit 1
}
has() { command -v "$1" >/dev/null 2>&1; }

usage() { sed -n '2,/^set -eu/s/^# \{0,1\}//p' "$0"; }

prefix="${HOME:-}/.local"
sudo=''
action=install
checksum_only=''
while [ $# -gt 0 ]; do
	case $1 in
	--prefix)
		[ $# -ge 2 ] || die '--prefix takes a folder'
		prefix=$2
		shift
		;;
	--prefix=*) prefix=${1#*=} ;;
	--sudo) prefix=/usr/local sudo=sudo ;;
	--uninstall) action=uninstall ;;
	--checksum-only) checksum_only=1 ;;
	-h | --help)
		usage
		exit 0
		;;
	*) die "unknown option $1; see --help" ;;
	esac
	shift
done
case $prefix in
/*) ;;
*) die "the folder must be absolute: $prefix" ;;
esac

as_asked() {
	if [ -n "$sudo" ]; then "$sudo" "$@"; else "$@"; fi
}

# What an installation consists of, one path a line, below the prefix.
list=share/berth/installed

remove_listed() { # remove_listed LIST: the files of a list, and what was to become one
	while IFS= read -r file; do
		case $file in
		/* | *..*) die "$prefix/$list is damaged: $file" ;;
		esac
		as_asked rm -f "$prefix/$file" "$prefix/$file.new"
	done <"$1"
}

uninstall() {
	[ -f "$prefix/$list" ] || die "nothing that this script installed is below $prefix"
	berth=$prefix/bin/berth
	if [ -x "$berth" ]; then
		"$berth" uninstall || say 'the agent could not be stopped; going on'
	fi
	remove_listed "$prefix/$list"
	as_asked rm -f "$prefix/$list" "$prefix/$list.new"
	as_asked rmdir "$prefix/share/berth" "$prefix/share/doc/berth" 2>/dev/null || true
	say "removed berth from $prefix; your config and ~/.tsh stay"
}

fetch() { # fetch NAME FILE
	if has curl; then
		curl --fail --silent --show-error --location --proto '=https,http' --output "$2" "$base/$1"
	elif has wget; then
		wget -q -O "$2" "$base/$1"
	else
		die 'neither curl nor wget is installed'
	fi || die "cannot download $base/$1"
}

sum_of() {
	if has sha256sum; then
		sha256sum "$1" | cut -d ' ' -f 1
	elif has shasum; then
		shasum -a 256 "$1" | cut -d ' ' -f 1
	else
		die 'neither sha256sum nor shasum is installed'
	fi
}

# The signature by openssl: a minisign key is an Ed25519 key behind ten bytes.
openssl_verifies() {
	has openssl && has base64 || return 2
	{
		printf '\060\052\060\005\006\003\053\145\160\003\041\000' # the header of such a key in DER
		printf '%s' "$public_key" | base64 -d | tail -c 32
	} >"$work/key.der"
	sed -n 2p "$work/SHA256SUMS.minisig" | base64 -d | tail -c 64 >"$work/signature"
	openssl pkey -pubin -inform DER -in "$work/key.der" -out "$work/key.pem" 2>/dev/null || return 2
	openssl pkeyutl -help 2>&1 | grep -q -e -rawin || return 2
	openssl pkeyutl -verify -pubin -inkey "$work/key.pem" -rawin -in "$work/SHA256SUMS" -sigfile "$work/signature" >/dev/null 2>&1
}

check_signature() {
	if [ -z "$public_key" ]; then
		[ -n "$checksum_only" ] || die 'this release is not signed; use --checksum-only to install it all the same'
		return 0
	fi
	fetch SHA256SUMS.minisig "$work/SHA256SUMS.minisig"
	if has minisign; then
		minisign -V -q -P "$public_key" -x "$work/SHA256SUMS.minisig" -m "$work/SHA256SUMS" ||
			die 'the signature of the checksums is WRONG: this release was changed after it was signed'
		return 0
	fi
	result=0
	openssl_verifies || result=$?
	case $result in
	0) return 0 ;;
	1) die 'the signature of the checksums is WRONG: this release was changed after it was signed' ;;
	esac
	[ -n "$checksum_only" ] || die 'nothing here can check the signature: install minisign, or use --checksum-only'
}

put() { # put MODE SOURCE TARGET: a file, in one step
	as_asked mkdir -p "$(dirname "$prefix/$3")"
	as_asked cp "$2" "$prefix/$3.new"
	as_asked chmod "$1" "$prefix/$3.new"
	as_asked mv -f "$prefix/$3.new" "$prefix/$3"
}

note() { printf '%s\n' "$3" >>"$work/list"; }

each() { # each COMMAND: COMMAND MODE SOURCE TARGET, for each file
	"$1" 755 "$from/berth" bin/berth
	for page in "$from"/man/*.[15]; do
		[ -f "$page" ] || continue
		"$1" 644 "$page" "share/man/man${page##*.}/${page##*/}"
	done
	"$1" 644 "$from/completions/berth.bash" share/bash-completion/completions/berth
	"$1" 644 "$from/completions/_berth" share/zsh/site-functions/_berth
	"$1" 644 "$from/completions/berth.fish" share/fish/vendor_completions.d/berth.fish
	"$1" 644 "$from/LICENSE" share/doc/berth/LICENSE
	"$1" 644 "$from/THIRD_PARTY_LICENSES" share/doc/berth/THIRD_PARTY_LICENSES
}

install_berth() {
	case $(uname -s) in
	Linux) os=linux suffix=.tar.gz ;;
	Darwin) os=darwin suffix=.zip ;;
	*) die "no archive for $(uname -s): see the packages of the release" ;;
	esac
	case $(uname -m) in
	x86_64 | amd64) arch=amd64 ;;
	aarch64 | arm64) arch=arm64 ;;
	*) die "no archive for $(uname -m)" ;;
	esac
	name=berth_${version}_${os}_${arch}
	work=$(mktemp -d)
	trap 'rm -rf "$work"' EXIT
	# dash and others run that only where the shell exits by itself.
	trap 'exit 129' HUP
	trap 'exit 130' INT
	trap 'exit 143' TERM

	fetch SHA256SUMS "$work/SHA256SUMS"
	check_signature
	want=$(awk -v f="$name$suffix" '$2 == f { print $1 }' "$work/SHA256SUMS")
	[ -n "$want" ] || die "the release has no $name$suffix"
	fetch "$name$suffix" "$work/$name$suffix"
	[ "$(sum_of "$work/$name$suffix")" = "$want" ] || die "the checksum of $name$suffix is WRONG"
	if [ $suffix = .zip ]; then
		has unzip || die 'unzip is not installed'
		unzip -q "$work/$name$suffix" -d "$work"
	else
		tar -xzf "$work/$name$suffix" -C "$work"
	fi

	from=$work/$name
	each note
	# The list comes first, with what an earlier version has brought: --uninstall takes away
	# what an installation that did not end has left, too.
	cp "$work/list" "$work/both"
	[ ! -f "$prefix/$list" ] || grep -vxFf "$work/list" "$prefix/$list" >"$work/old" || true
	[ ! -f "$work/old" ] || cat "$work/old" >>"$work/both"
	put 644 "$work/both" "$list"
	each put
	[ ! -f "$work/old" ] || remove_listed "$work/old"
	put 644 "$work/list" "$list"

	say "berth $version is $prefix/bin/berth"
	case ":$PATH:" in
	*":$prefix/bin:"*) berth=berth ;;
	*)
		berth=$prefix/bin/berth
		say "$prefix/bin is not on your PATH; add it to your shell's profile"
		;;
	esac
	say "next: $berth setup"
}

case $action in
install) install_berth ;;
uninstall) uninstall ;;
esac
