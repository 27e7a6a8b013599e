#!/bin/sh
# Makes a folder with Debian 13 and its Wine 10 in it, for systems that offer an
# older one: wine-root.sh FOLDER, as root on a Debian-like system. It takes about a
# minute. Then: BERTH_WINE="chroot FOLDER" BERTH_WINE_ROOT=FOLDER make wine-test
set -eu

[ $# -eq 1 ] || { echo "usage: wine-root.sh FOLDER" >&2; exit 2; }
root=$1
export DEBIAN_FRONTEND=noninteractive
if ! command -v debootstrap >/dev/null 2>&1; then
	apt-get update -qq
	apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
fi
# What Debian signs with; a system that is not Debian's may lack the keys.
keys=/usr/share/keyrings/debian-archive-keyring.gpg
[ -e $keys ] || apt-get install -y -qq --no-install-recommends debian-archive-keyring >/dev/null
if [ ! -x "$root/usr/bin/apt-get" ]; then
	debootstrap --variant=minbase --keyring=$keys trixie "$root" >/dev/null
fi
for dir in proc dev; do
	mountpoint -q "$root/$dir" || mount --bind "/$dir" "$root/$dir"
done
# A bare Debian has none, and Wine then finds no localhost.
[ -e "$root/etc/hosts" ] || printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"
chroot "$root" apt-get install -y -qq --no-install-recommends wine wine64 >/dev/null
chroot "$root" wine --version
