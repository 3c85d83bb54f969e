#!/bin/sh
# The main job on real input: sweep a small language model over a text, compare
# the runs, look at the loss, read a sample, pack the best run and check the
# archive with nothing but tar and sha256sum. `make demo` runs it.
set -eu
pioche=$(realpath "${PIOCHE:-build/pioche}")
unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES PIOCHE || true

text=${TEXT:-}
if [ -z "$text" ]; then
	text=build/data/kjv.txt
	if [ ! -s "$text" ]; then
		mkdir -p build/data
		bible -f 'Gen1:1-Rev22:21' >"$text.part"
		mv "$text.part" "$text"
	fi
fi
[ -s "$text" ] || { echo "demo: the text $text is missing or empty" >&2; exit 1; }

say() { printf '\n\033[1m$ pioche %s\033[0m\n' "$*"; }
[ -t 1 ] || say() { printf '\n$ pioche %s\n' "$*"; }

say run recipes/gpt.lua "inputs.text=$text"
"$pioche" run recipes/gpt.lua "inputs.text=$text"

say compare gpt
"$pioche" compare gpt

say chart gpt --metric val/loss
"$pioche" chart gpt --metric val/loss

say show gpt/best --texts
"$pioche" show gpt/best --texts

rm -rf build/demo
mkdir -p build/demo
say export gpt/best -o build/demo/gpt-best.tar
"$pioche" export gpt/best -o build/demo/gpt-best.tar

cd build/demo
tar xf gpt-best.tar
cd gpt-*/
printf '\n$ tar xf gpt-best.tar && cd %s && sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt\n' \
	"$(basename "$PWD")"
sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt
