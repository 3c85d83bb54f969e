#!/bin/sh
# Fuzz for real: `run.sh BUILD SECONDS fuzz_NAME...` builds each target with
# clang's libFuzzer and the sanitizers and runs it on its corpus. New inputs go
# to BUILD/fuzz, never into the tree; a finding ends with a non-zero status.
set -eu
build=$1 seconds=$2
shift 2
if ! command -v clang >/dev/null 2>&1; then
	echo "fuzz: clang is missing (Debian packages clang and libclang-rt-14-dev)" >&2
	exit 1
fi
packages="sqlite3 lua5.4 libgit2 libarchive libuv libzstd jansson libcrypto"
out=$build/fuzz
mkdir -p "$out"
make --no-print-directory BUILD="$build" "$build/gen/schema.c" "$build/gen/lua_modules.c"
sources=$(find core -name '*.c' ! -path core/cli/main.c)
for name in "$@"; do
	corpus=tests/fuzz/corpus/${name#fuzz_}
	mkdir -p "$out/$name.corpus"
	echo "== $name, $seconds s"
	# shellcheck disable=SC2046,SC2086
	clang -std=gnu11 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-D_GNU_SOURCE -DPIO_VERSION='"fuzz"' -Icore -Wno-everything -o "$out/$name" \
		"tests/fuzz/$name.c" $sources "$build/gen/schema.c" "$build/gen/lua_modules.c" \
		$(pkg-config --cflags --libs $packages) -lm -ldl -lpthread
	"$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
		-artifact_prefix="$out/$name." -print_final_stats=0 "$out/$name.corpus" "$corpus"
done
