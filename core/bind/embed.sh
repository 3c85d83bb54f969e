#!/bin/sh
# Put files into a C source: `embed.sh lua DIR FILE...` makes the table of Lua
# modules, each compiled to DIR/FILEc; `embed.sh text NAME FILE` one
# NUL-terminated string.
set -eu

incbin() { # symbol file
	printf '__asm__(".section .rodata\\n.global %s\\n%s:\\n.incbin \\"%s\\"\\n.byte 0\\n.global %s_end\\n%s_end:\\n.previous\\n");\n' \
		"$1" "$1" "$2" "$1" "$1"
}

kind=$1
shift
if [ "$kind" = text ]; then
	incbin "$1" "$2"
	exit
fi
dir=$1
shift
n=0
for f in "$@"; do
	incbin "pio_lua_$n" "$dir/${f}c"
	printf 'extern const char pio_lua_%s[], pio_lua_%s_end[];\n' "$n" "$n"
	n=$((n + 1))
done
echo 'struct pio_lua_module { const char *name, *path, *start, *end; };'
echo 'extern const struct pio_lua_module pio_lua_modules[];'
echo 'const struct pio_lua_module pio_lua_modules[] = {'
n=0
for f in "$@"; do
	name=${f#lua/}
	name=$(printf %s "${name%.lua}" | tr / .)
	name=${name%.init}
	printf '\t{ "%s", "%s", pio_lua_%s, pio_lua_%s_end - 1 },\n' "$name" "$f" "$n" "$n"
	n=$((n + 1))
done
printf '\t{ 0, 0, 0, 0 }\n};\n'
