#!/bin/sh
# `late.sh OBJECT...`: assembly that stands in for the functions of libgit2 which
# the objects call. Each jumps through its slot, and pio_git_library_load fills
# the slots: the library and the twenty that it needs are loaded by the commands
# that touch a repository, not by every `pioche ls` (4 of its 12 ms).
set -eu

names=$(nm -u "$@" | sed -n 's/^ *U \(git_[a-z0-9_]*\)$/\1/p' | LC_ALL=C sort -u)

echo '	.section .note.GNU-stack,"",%progbits'
echo '	.text'
slot=0
for name in $names; do
	cat <<-END
		.globl $name
		.hidden $name
		.type $name, %function
		$name:
		#if defined __x86_64__
			jmp *pio_git_slots+$slot(%rip)
		#elif defined __aarch64__
			adrp x16, pio_git_slots+$slot
			ldr x16, [x16, :lo12:pio_git_slots+$slot]
			br x16
		#else
		#error "late.sh knows x86-64 and aarch64: add this machine's jump through memory"
		#endif
		.size $name, .-$name
	END
	slot=$((slot + 8))
done

echo '	.section .rodata'
echo '	.globl pio_git_names'
echo '	.hidden pio_git_names'
echo 'pio_git_names:'
for name in $names; do
	printf '\t.asciz "%s"\n' "$name"
done
echo '	.byte 0'
echo '	.bss'
echo '	.balign 8'
echo '	.globl pio_git_slots'
echo '	.hidden pio_git_slots'
printf 'pio_git_slots:\n\t.zero %d\n' "$slot"
