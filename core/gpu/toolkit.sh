#!/bin/sh
# toolkit.sh NVCC DIR: what the CUDA parts are compiled with and nvcc's own
# toolkit lacks, from NVIDIA's Python packages into DIR/include and DIR/lib.
# Done once: DIR/ready says so.
set -eu

nvcc=$1 dir=$2
[ -e "$dir/ready" ] && exit 0
mkdir -p "$dir/include" "$dir/lib"

lacks() {
	! printf '#include <%s>\n' "$1" | "$nvcc" -x cu -E -o /dev/null - 2>/dev/null
}

wanted=
lacks nccl.h && wanted="$wanted nvidia-nccl-cu13==2.30.7"
lacks cublas_v2.h && wanted="$wanted nvidia-cublas==13.1.1.3"
lacks nvml.h && wanted="$wanted nvidia-nvml-dev==13.0.87"

if [ -n "$wanted" ]; then
	case $("$nvcc" --version) in
	*'release 13.'*) ;;
	*)
		echo "cuda: $nvcc is not of CUDA 13, and its toolkit lacks headers that could be had for 13 alone:$wanted" >&2
		exit 1
		;;
	esac
	python3 -m pip --version >/dev/null 2>&1 || { echo "cuda: no pip to get$wanted" >&2; exit 1; }
	echo "FETCH$wanted"
	rm -rf "$dir/wheels"
	mkdir "$dir/wheels"
	python3 -m pip download -q --no-deps --disable-pip-version-check --only-binary=:all: \
		-d "$dir/wheels" $wanted || { echo "cuda: pip could not get$wanted" >&2; exit 1; }
	for wheel in "$dir/wheels/"*.whl; do
		python3 -m zipfile -e "$wheel" "$dir/wheels"
		rm "$wheel"
	done
	for part in "$dir/wheels/nvidia/"*; do
		[ -d "$part/include" ] && cp -R "$part/include/." "$dir/include"
		[ -d "$part/lib" ] && mv "$part/lib/"* "$dir/lib"
	done
	rm -rf "$dir/wheels"
fi
touch "$dir/ready"
