#!/bin/sh
# Install the Debian packages that pioche needs to build, test and run its
# demo; silent when all are there. `deps.sh build`, `deps.sh test` or `deps.sh fuzz`.
set -eu

build="gcc make pkg-config git python3 libsqlite3-dev liblua5.4-dev libgit2-dev libarchive-dev
libuv1-dev libzstd-dev libjansson-dev libssl-dev libxxhash-dev libopenblas-dev bible-kjv bible-kjv-text"
test="g++ libcmocka-dev sqlite3 lua-check python3-venv bindfs zstd rclone
age openssh-client slurmctld slurmd slurmdbd slurm-client slurm-wlm-basic-plugins mariadb-server-core mariadb-client-core"
fuzz="clang libclang-rt-14-dev"

case ${1:-build} in
test) wanted="$build $test" ;;
fuzz) wanted="$build $fuzz" ;;
*) wanted=$build ;;
esac

if ! command -v dpkg-query >/dev/null 2>&1; then
	[ -n "${PIOCHE_NO_DEPS:-}" ] && exit 0
	echo "pioche: this is not a Debian system. Please install what these Debian packages hold," >&2
	echo "then run again with PIOCHE_NO_DEPS=1:" >&2
	echo $wanted >&2
	exit 1
fi

missing=
for package in $wanted; do
	status=$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null || true)
	[ "$status" = installed ] || missing="$missing $package"
done
[ -z "$missing" ] && exit 0

root=
if [ "$(id -u)" != 0 ]; then
	if ! command -v sudo >/dev/null 2>&1; then
		echo "pioche: these packages are missing, and there is no sudo to install them:$missing" >&2
		exit 1
	fi
	root=sudo
fi
echo "Installing$missing"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
install() {
	$root env DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 install -y --no-install-recommends $missing
}
if ! { install || { $root apt-get update && install; }; } >"$log" 2>&1; then
	tail -n 20 "$log" >&2
	echo "pioche: apt-get could not install:$missing" >&2
	exit 1
fi
