#!/bin/sh
# Fuzz for real: `run.sh BUILD SECONDS fuzz_NAME...` links each target with
# clang's libFuzzer and the sanitizers and runs it on its corpus. New inputs go
# to BUILD/fuzz, never into the tree; a finding ends with a non-zero status.
set -eu
build=$1 seconds=$2
shift 2
packages="sqlite3 lua5.4 libarchive libuv libzstd jansson libcrypto"
out=$build/fuzz
# Warnings are gcc's business; here the code is only instrumented.
make --no-print-directory CC=clang WARN=-w SAN=fuzzer-no-link,address,undefined BUILD="$out" objects
for name in "$@"; do
	mkdir -p "$out/$name.corpus"
	echo "== $name, $seconds s"
	# shellcheck disable=SC2046,SC2086
	clang -std=gnu11 -g -O1 -w -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=all \
		-D_GNU_SOURCE -Icore -o "$out/$name" "tests/fuzz/$name.c" \
		$(find "$out/core" "$out/gen" -name '*.o' ! -path '*/cli/main.o') \
		$(pkg-config --cflags --libs $packages) -lm -ldl -lpthread
	"$out/$name" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 \
		-artifact_prefix="$out/$name." "$out/$name.corpus" "tests/fuzz/corpus/${name#fuzz_}"
done
