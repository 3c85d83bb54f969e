# pioche: one Makefile, plain. `make help` lists the targets.

SAN     ?=
BUILD   ?= $(if $(SAN),build/san,build)
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
V       ?= 0
TEXT    ?=

VERSION := 0.1.0
Q       := $(if $(filter 1,$(V)),,@)

PACKAGES := sqlite3 lua5.4 libgit2 libarchive libuv libzstd jansson libcrypto
WARN     := -Wall -Wextra -Wpedantic -Werror -Wshadow -Wconversion -Wstrict-prototypes \
            -Wmissing-prototypes -Wno-overlength-strings -Wno-format-truncation
SANFLAGS := $(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all -fno-omit-frame-pointer)
OPT      ?= $(if $(SAN),-O1,-O2)
CFLAGS   = -std=gnu11 $(OPT) -g $(WARN) $(SANFLAGS) -fPIC -fvisibility=hidden -ffp-contract=off -pthread
CPPFLAGS = -Icore -I$(BUILD)/gen -D_GNU_SOURCE -DPIO_VERSION='"$(VERSION)"' -MMD -MP \
           $(shell pkg-config --cflags $(PACKAGES) 2>/dev/null)
# core/git loads libgit2 itself, core/sys libcrypto.
LDLIBS   = $(shell pkg-config --libs $(filter-out libgit2 libcrypto,$(PACKAGES)) 2>/dev/null) -lm -ldl -lpthread
LDFLAGS  = $(SANFLAGS) -pthread

# The client library needs libc alone: no SQLite, Lua, jansson or libuv.
LIB_SRC  := $(wildcard core/client/*.c) $(filter-out core/base/json.c core/base/safetensors.c,$(wildcard core/base/*.c)) \
            $(addprefix core/sys/,fs.c fs_place.c fs_tree.c hash.c journal.c journal_read.c library.c save.c shm.c sock.c)
CORE_SRC := $(filter-out core/cli/main.c core/bind/precompile.c core/store/extension.c,$(wildcard core/*/*.c))
# The half of core/store that reads points stands on its own: pioche_sqlite.so
# goes into a host that brings its SQLite, pioche_read.so into one that does not.
READ_OBJ      := $(addprefix $(BUILD)/core/,base/crc32c.o base/err.o base/mem.o base/str.o store/chunk_decode.o \
                   store/chunk_stats.o)
READ_SQL      := cursor reader recent
EXTENSION_SQL := $(READ_SQL) bucket extension lod point reader_table sql_functions
PYTHON   := pioche.py pioche_checkpoint.py pioche_points.py pioche_torch.py pioche_values.py
MIGRATIONS := $(wildcard core/store/migrate_*.sql)
LUA_SRC  := $(shell find lua -name '*.lua' 2>/dev/null | LC_ALL=C sort)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o)
CORE_OBJ := $(CORE_SRC:%.c=$(BUILD)/%.o) $(addprefix $(BUILD)/gen/,lua_modules.o schema.o git.o)

# The trainer, and what it computes on: cpu/ makes gpt of it, cuda/ gpt_cuda.
GPT_SHARED := $(patsubst %.c,$(BUILD)/%.o,$(wildcard experiments/gpt/*.c))
GPT_CPU    := $(patsubst %.c,$(BUILD)/%.o,$(wildcard experiments/gpt/cpu/*.c))
GPT_OBJ    := $(GPT_SHARED) $(GPT_CPU)
GPT_ARCH   ?= $(if $(filter x86_64,$(shell uname -m)),x86-64-v3,native)
GPT_CFLAGS ?= -std=gnu11 -O3 -march=$(GPT_ARCH) -fno-math-errno -fno-trapping-math -fopenmp-simd \
              -ffp-contract=fast -g $(WARN) $(SANFLAGS)

UNIT_TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
SCRIPTS    := $(wildcard tests/lua/test_*.lua tests/client/test_*.py tests/cli/*.sh tests/cli/*.py \
                tests/crash/*.sh tests/crash/*.py)
CRASH_SRC  := $(filter-out tests/crash/crash_%,$(wildcard tests/crash/*.c))
CRASHERS   := $(patsubst tests/crash/%.c,$(BUILD)/tests/%,$(wildcard tests/crash/crash_*.c))
# What shares memory between threads or processes.
THREADED   := ring vote agent_vote head_vote client save agent head rendezvous comm lease fold belt series
FUZZERS    := $(patsubst tests/fuzz/%.c,%,$(wildcard tests/fuzz/fuzz_*.c))
FUZZ_S     ?= 600

.PHONY: build demo test test-crash test-pod test-threads bench drills lint fuzz install clean help deps deps-test gpt lib programs
.DELETE_ON_ERROR:
.SECONDARY:

# As many compilers at a time as there are processors, where nobody has said how many.
PARALLEL = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(shell nproc))

# The first goal: a bare `make` installs what is missing, then builds.
build: deps
	@$(MAKE) --no-print-directory $(PARALLEL) programs

programs: $(BUILD)/pioche lib gpt
	@:
lib: $(BUILD)/lib/libpioche.so $(BUILD)/lib/libpioche.a $(addprefix $(BUILD)/lib/pioche/,$(PYTHON) \
     pioche_sqlite.so pioche_read.so)
gpt: $(BUILD)/gpt

# pioche carries what the system has as archives, so that start-up neither
# searches nor relocates it: a shared libarchive brings 12 more, ICU among them.
# Dropping unused sections leaves nothing of it but tar, which needs none.
carried = $(or $(filter /%,$(shell $(CC) -print-file-name=lib$(1).a)),$(2))
$(BUILD)/pioche: LDLIBS = -Wl,--gc-sections $(call carried,archive,-larchive) $(call carried,z) \
  $(call carried,sqlite3,-lsqlite3) $(call carried,lua5.4,-llua5.4) $(call carried,uv_a,-luv) \
  $(call carried,jansson,-ljansson) $(call carried,zstd,-lzstd) -lm -ldl -lpthread
$(BUILD)/pioche: $(BUILD)/core/cli/main.o $(CORE_OBJ)
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ $(LDLIBS)

$(BUILD)/lib/libpioche.a: $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "AR $@"
	$(Q)rm -f $@ && ar rcs $@ $^

$(BUILD)/lib/libpioche.so: $(LIB_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libpioche.so,-z,nodelete -o $@ $^ -lpthread

$(BUILD)/lib/pioche/pioche_sqlite.so: $(READ_OBJ) $(EXTENSION_SQL:%=$(BUILD)/extension/%.o)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^ -Wl,--exclude-libs,ALL $(call carried,zstd,-lzstd) -lm

$(BUILD)/lib/pioche/pioche_read.so: $(READ_OBJ) $(READ_SQL:%=$(BUILD)/core/store/%.o) $(BUILD)/core/store/read.o
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -shared -o $@ $^ -Wl,--exclude-libs,ALL $(call carried,zstd,-lzstd) -lsqlite3 -lpthread

# The loops that are worth unrolling: bytes into numbers, over those of tensors, and
# kernels into densities.
$(BUILD)/core/store/chunk_decode.o $(BUILD)/core/store/tensor_diff.o $(BUILD)/core/base/element.o: CFLAGS += -O3
$(BUILD)/core/sweep/tpe_side.o $(BUILD)/core/sweep/tpe_score.o $(BUILD)/core/sweep/gp.o $(BUILD)/core/sweep/real.o: CFLAGS += -O3

$(BUILD)/extension/%.o: core/store/%.c
	@mkdir -p $(@D)
	@echo "CC $< (extension)"
	$(Q)$(CC) $(CPPFLAGS) -DPIO_SQLITE_EXTENSION $(CFLAGS) -c -o $@ $<

$(BUILD)/lib/pioche/%.py: core/client/%.py
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(BUILD)/gpt: $(GPT_OBJ) $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lopenblas -lm -lpthread

$(BUILD)/experiments/gpt/%.o: experiments/gpt/%.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(GPT_CFLAGS) -Icore -Iexperiments/gpt -D_GNU_SOURCE -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Lua modules and the schema travel inside the executable.
$(BUILD)/gen/precompile: core/bind/precompile.c
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) -std=gnu11 -O1 $(WARN) -o $@ $< $(shell pkg-config --cflags --libs lua5.4)

$(BUILD)/gen/%.luac: %.lua $(BUILD)/gen/precompile
	@mkdir -p $(@D)
	$(Q)$(BUILD)/gen/precompile $< > $@

$(BUILD)/gen/lua_modules.c: $(LUA_SRC:%=$(BUILD)/gen/%c) core/bind/embed.sh
	@echo "EMBED lua/"
	$(Q)sh core/bind/embed.sh lua $(BUILD)/gen $(LUA_SRC) > $@

$(BUILD)/gen/schema.c: core/store/schema.sql $(MIGRATIONS) core/bind/embed.sh
	@mkdir -p $(@D)
	@echo "EMBED $<"
	$(Q)sh core/bind/embed.sh text pio_schema_sql $< > $@
	$(Q)for file in $(MIGRATIONS:core/store/%.sql=%); do \
	  sh core/bind/embed.sh text pio_$${file}_sql core/store/$$file.sql || exit 1; done >> $@

# libgit2 is loaded when a command first needs it.
$(BUILD)/gen/git.o: core/git/late.sh $(filter $(BUILD)/core/git/%,$(CORE_SRC:%.c=$(BUILD)/%.o))
	$(Q)sh $^ > $(@:.o=.S)
	$(Q)$(CC) -c -o $@ $(@:.o=.S)

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(Q)$(CC) -std=gnu11 $(SANFLAGS) -fPIC -c -o $@ $<

$(BUILD)/tests/test_gpt_%: tests/unit/test_gpt_%.c $(filter-out %/main.o,$(GPT_OBJ)) $(BUILD)/lib/libpioche.a
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) -Iexperiments -Iexperiments/gpt $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o %.a,$^) \
	  -lcmocka -lopenblas -lm -lpthread

$(BUILD)/tests/%: tests/unit/%.c $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $< $(filter %.o,$^) -lcmocka $(LDLIBS)

# Kills, failing disks and power failures: the sweeps of tests/crash, in C.
$(BUILD)/tests/crash_%: tests/crash/crash_%.c $(CRASH_SRC) tests/crash/*.h $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LDLIBS)

# Each parser of outside bytes runs its corpus under gcc in the tests, and
# under libFuzzer in `make fuzz`.
$(BUILD)/tests/fuzz_%: tests/fuzz/fuzz_%.c tests/fuzz/corpus_main.c $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) -DFUZZ_CORPUS='"tests/fuzz/corpus/$*"' $(CFLAGS) $(LDFLAGS) -o $@ \
	  $(filter %.c %.o,$^) $(LDLIBS)

.PHONY: objects
objects: $(CORE_OBJ)
	@:

# Lua tests run in the same state as commands do.
$(BUILD)/tests/lua_host: tests/lua/host.c $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LDLIBS)

# The stand-in for NVIDIA's library.
$(BUILD)/gpu_host/libnvidia-ml.so.1: tests/gpu_host/nvml.c
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) -std=gnu11 -O1 $(SANFLAGS) -shared -fPIC -Wl,-soname,$(@F) -o $@ $<

# An old-style RPATH: a sanitizer's own dlopen looks nowhere else.
$(BUILD)/tests/test_nvml $(BUILD)/tests/test_preflight $(BUILD)/tests/test_cuda $(BUILD)/tests/test_save_gpu $(BUILD)/bench/bench_host: LDFLAGS += -Wl,--disable-new-dtags,-rpath,'$$ORIGIN/../gpu_host'
$(BUILD)/tests/test_cuda $(BUILD)/tests/test_save_gpu: $(BUILD)/gpu_host/libcuda.so.1
$(BUILD)/tests/test_nvml $(BUILD)/tests/test_preflight $(BUILD)/bench/bench_host: $(BUILD)/gpu_host/libnvidia-ml.so.1

# A GPU and NCCL on the host's threads, for tests alone. Programs of tests/gpu and
# gpt_cuda are built of the same sources for it as nvcc builds for a GPU. What is of a
# thread lies in place from its start: LeakSanitizer reads later places wrongly.
CXX      ?= g++
HOST_CXX  = $(CXX) -std=gnu++17 -O2 -g -Wall -Wextra -Werror $(SANFLAGS) -fPIC -ftls-model=initial-exec \
            -ffp-contract=off -pthread -Itests/gpu_host/include -Icore -Iexperiments/gpt -MMD -MP
HOST_PROGRAMS = $(addprefix $(BUILD)/,gpu_host/gpt_cuda tests/nccl_ranks tests/kernels_cpu tests/kernels_host)
HOST_LIBS = $(BUILD)/gpu_host/libcuda.so.1 $(BUILD)/gpu_host/libnccl.so.2 $(BUILD)/gpu_host/old/libnccl.so.2

$(BUILD)/gpu_host/libcuda.so.1: $(addprefix $(BUILD)/gpu_host/,device.o stream.o)
	@echo "LD $@"
	$(Q)$(CXX) $(SANFLAGS) $(LDFLAGS) -shared -pthread -Wl,-soname,$(@F) -o $@ $(filter %.o,$^)

$(BUILD)/gpu_host/libnccl.so.2: tests/gpu_host/nccl.cpp $(BUILD)/gpu_host/libcuda.so.1
	@echo "LD $@"
	$(Q)$(HOST_CXX) -shared -Wl,-soname,$(@F) -o $@ $^

$(BUILD)/gpu_host/old/libnccl.so.2: tests/gpu_host/nccl.cpp $(BUILD)/gpu_host/libcuda.so.1
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(HOST_CXX) -DGPU_HOST_NCCL_OLD -shared -Wl,-soname,$(@F) -o $@ $^

$(BUILD)/gpu_host/%.o: tests/gpu_host/%.cpp
	@mkdir -p $(@D)
	@echo "CXX $<"
	$(Q)$(HOST_CXX) -c -o $@ $<

$(BUILD)/gpu_host/%.o: tests/gpu/%.cu
	@mkdir -p $(@D)
	@echo "CXX $< (host)"
	$(Q)$(HOST_CXX) -x c++ -c -o $@ $<

$(BUILD)/gpu_host/gpt/%.o: experiments/gpt/cuda/%.cu
	@mkdir -p $(@D)
	@echo "CXX $< (host)"
	$(Q)$(HOST_CXX) -DGPT_BUCKET_FLOATS=3000 -x c++ -c -o $@ $<

# gpt_cuda as the tests run it, all but its main(), and what it is made of.
GPT_GPU_OBJ := $(addprefix $(BUILD)/core/gpu/,cuda.o driver.o staging.o)
GPT_HOST    := $(patsubst experiments/gpt/cuda/%.cu,$(BUILD)/gpu_host/gpt/%.o,$(wildcard experiments/gpt/cuda/*.cu)) \
               $(BUILD)/gpu_host/grid.o $(BUILD)/gpu_host/blas.o $(GPT_GPU_OBJ) $(BUILD)/lib/libpioche.a

$(BUILD)/gpu_host/gpt_cuda: $(GPT_SHARED) $(GPT_HOST) $(HOST_LIBS)
	@echo "LD $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(BUILD)/gpu_host/libcuda.so.1 -lopenblas -lm

# The same kernels on the same inputs: on the CPU, on the stand-in, on a GPU.
$(BUILD)/tests/kernels.o: tests/gpu/kernels.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CPPFLAGS) -Iexperiments/gpt $(CFLAGS) -c -o $@ $<

$(BUILD)/tests/kernels_cpu: $(BUILD)/tests/kernels.o $(filter-out %/main.o,$(GPT_OBJ)) $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lopenblas -lm

$(BUILD)/tests/kernels_host: $(BUILD)/tests/kernels.o $(filter-out %/main.o,$(GPT_SHARED)) $(GPT_HOST) $(HOST_LIBS)
	@echo "LD $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(BUILD)/gpu_host/libcuda.so.1 -lopenblas -lm

$(BUILD)/tests/nccl_ranks: $(BUILD)/gpu_host/nccl_ranks.o $(BUILD)/gpu_host/grid.o $(HOST_LIBS) \
    $(BUILD)/lib/libpioche.a
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CXX) $(LDFLAGS) -o $@ $(filter %.o %.a,$^) $(BUILD)/gpu_host/libcuda.so.1

# ---- CUDA: where there is an nvcc -----------------------------------------------

NVCC     ?= $(or $(shell command -v nvcc 2>/dev/null),$(wildcard /usr/local/cuda/bin/nvcc))
CUDA     := $(BUILD)/cuda
CUDA_INC  = -Icore -Iexperiments/gpt -isystem $(CUDA)/include

.PHONY: cuda cuda-programs
ifeq ($(NVCC),)
cuda:
	@echo "cuda: no nvcc on this machine. Left out: gpt_cuda, and the tests of tests/gpu"
else
cuda:
	@sh core/gpu/toolkit.sh "$(NVCC)" $(CUDA)
	@$(MAKE) --no-print-directory BUILD=$(BUILD) cuda-programs
endif

# sm_90 is the H100 and the H200; newer GPUs compile the PTX for themselves.
CUDA_ARCH  ?= 90
NVCC_FLAGS  = -std=c++17 -O3 -g -lineinfo -gencode arch=compute_$(CUDA_ARCH),code=[sm_$(CUDA_ARCH),compute_$(CUDA_ARCH)] \
              -Werror all-warnings -Xcompiler -Wall,-Wextra,-Werror,-fPIC $(CUDA_INC)
CUDA_BUILT  = $(addprefix $(CUDA)/,abi.o nccl_ranks kernels) $(BUILD)/gpt_cuda
GPT_CUDA    = $(patsubst experiments/gpt/cuda/%.cu,$(CUDA)/%.o,$(wildcard experiments/gpt/cuda/*.cu))
# Out of a toolkit that has it, else out of the packages, where it is found again.
CUBLAS      = $(if $(wildcard $(CUDA)/lib/libcublas.so.13),-L$(CUDA)/lib -l:libcublas.so.13 \
              -Xlinker '-rpath=$$ORIGIN/cuda/lib:$$ORIGIN/lib' -Xlinker -rpath-link=$(CUDA)/lib,-lcublas)

cuda-programs: $(CUDA_BUILT)
	@:

$(CUDA)/%.o: tests/gpu/%.cu
	@echo "NVCC $<"
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

$(CUDA)/%.o: experiments/gpt/cuda/%.cu
	@echo "NVCC $<"
	$(Q)$(NVCC) $(NVCC_FLAGS) -MMD -MP -c -o $@ $<

$(BUILD)/gpt_cuda: $(GPT_SHARED) $(GPT_CUDA) $(GPT_GPU_OBJ) $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(NVCC) -o $@ $^ $(CUBLAS) -lm

$(CUDA)/kernels: $(BUILD)/tests/kernels.o $(filter-out %/main.o,$(GPT_SHARED)) $(GPT_CUDA) $(GPT_GPU_OBJ) $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(NVCC) -o $@ $^ $(CUBLAS) -lm

$(CUDA)/nccl_ranks: $(CUDA)/nccl_ranks.o $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(NVCC) -o $@ $^

# nvcc for its include path alone: a host compiler does the work.
$(CUDA)/abi.o: tests/gpu/abi.c core/client/cuda_library.h core/client/nccl_library.h core/gpu/driver.h core/gpu/nvml_library.h
	@echo "NVCC $<"
	$(Q)$(NVCC) -x c -Xcompiler -std=gnu11,-Wall,-Wextra,-Werror $(CUDA_INC) -c -o $@ $<

# Alone, so that it is small itself.
$(BUILD)/bench/spawn: tests/bench/spawn.c
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $<

$(BUILD)/bench/%: tests/bench/%.c $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) $(LDLIBS)

# ---- goals -------------------------------------------------------------------

deps:
	@sh tests/deps.sh build

deps-test:
	@sh tests/deps.sh test

# Of a filtered run only those that it runs are linked.
COMPILED = $(foreach test,$(UNIT_TESTS) $(CRASHERS) $(FUZZERS:%=$(BUILD)/tests/%),$(if $(or $(if $(FILTER),,all),$(findstring $(FILTER),$(test))),$(test)))
.PHONY: test-programs
test-programs: programs $(HOST_PROGRAMS) $(BUILD)/gpu_host/libnvidia-ml.so.1 $(COMPILED) $(BUILD)/tests/lua_host

test: deps-test
	@$(MAKE) --no-print-directory $(PARALLEL) BUILD=$(BUILD) test-programs
	@SAN=$(SAN) python3 tests/run --build $(BUILD) --filter "$(FILTER)" $(COMPILED) $(SCRIPTS)

# What needs a GPU, one program after the other.
.PHONY: test-gpu
test-gpu: deps-test cuda
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD) programs $(BUILD)/tests/kernels_cpu
	@PIOCHE_BUILD="$$(realpath $(BUILD))" python3 tests/gpu/test_gpu.py test_the_machine
	@python3 tests/run --build $(BUILD) --jobs 1 tests/gpu/test_gpu.py

# The sample of `make test`, made whole: minutes.
test-crash: programs $(CRASHERS)
	@for test in $(CRASHERS); do echo "$$test"; \
	  KILLS=$(or $(KILLS),10000) ALL=1 JOBS=$(or $(JOBS),$(shell nproc)) $$test || exit 1; done
	@PIOCHE_BUILD="$$(realpath $(BUILD))" ALL=1 KILLS= python3 tests/crash/test_sweep.py

# A Slurm of 127 nodes on this machine, and 1,016 ranks in it: minutes.
test-pod: deps-test programs
	@NODES=$(NODES) RANKS=$(RANKS) STEPS=$(STEPS) TRIES=$(TRIES) \
	  PIOCHE_BUILD="$$(realpath $(BUILD))" python3 tests/pod/whole.py
	@NODES=$(NODES) RANKS=$(RANKS) PIOCHE_BUILD="$$(realpath $(BUILD))" python3 tests/pod/saves.py

# ThreadSanitizer cannot place its shadow under all randomizations of addresses,
# and by itself forbids a child of a threaded process to start threads.
test-threads: deps-test
	@$(MAKE) --no-print-directory $(PARALLEL) SAN=thread BUILD=$(BUILD)/threads run-threads

.PHONY: run-threads
run-threads: $(THREADED:%=$(BUILD)/tests/test_%)
	@TSAN_OPTIONS=die_after_fork=0 setarch -R python3 tests/run --build $(BUILD) $^

demo: build
	@PIOCHE=$(BUILD)/pioche TEXT="$(TEXT)" sh recipes/demo.sh

bench: deps-test
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD) programs \
	  $(patsubst tests/bench/%.c,$(BUILD)/bench/%,$(wildcard tests/bench/*.c))
	@FILTER="$(FILTER)" SHORT="$(SHORT)" python3 tests/bench/run.py $(BUILD)

# What searches find and what they cost, Optuna beside them: half an hour.
.PHONY: bench-sweep
bench-sweep: deps-test
	@$(MAKE) -s --no-print-directory BUILD=$(BUILD) programs $(BUILD)/tests/lua_host
	@FILTER="$(FILTER)" SHORT="$(SHORT)" SEEDS="$(SEEDS)" SEARCHES="$(SEARCHES)" \
	  python3 tests/bench/sweep.py $(BUILD)
	@FILTER="$(FILTER)" SHORT="$(SHORT)" SEEDS="$(SEEDS)" SEARCHES="$(SEARCHES)" \
	  python3 tests/bench/stopping.py $(BUILD)

# Successive halving of the language model, by stopping and by promotion: minutes.
.PHONY: bench-promotion
bench-promotion: deps-test programs gpt
	@SHORT="$(SHORT)" python3 tests/bench/promotion.py $(BUILD)

drills: deps-test programs
	@echo "one machine, two ranks"
	@PIOCHE_BUILD="$$(realpath $(BUILD))" python3 tests/crash/test_drills.py --table
	@echo "a Slurm of four nodes in a box, a rank on each"
	@PIOCHE_BUILD="$$(realpath $(BUILD))" python3 tests/cli/test_slurm_drills.py --table

lint: deps-test
	@python3 tests/lint.py

fuzz:
	@sh tests/deps.sh fuzz
	@sh tests/fuzz/run.sh $(BUILD) $(FUZZ_S) $(FUZZERS)

DEST = $(DESTDIR)$(PREFIX)

install: programs
	install -d "$(DEST)/bin" "$(DEST)/lib/pioche" "$(DEST)/lib/pkgconfig" "$(DEST)/include" \
	  "$(DEST)/share/pioche/recipes"
	install -m 755 $(BUILD)/pioche "$(DEST)/bin/pioche"
	install -m 755 $(BUILD)/lib/libpioche.so "$(DEST)/lib/libpioche.so"
	install -m 644 $(BUILD)/lib/libpioche.a "$(DEST)/lib/libpioche.a"
	install -m 644 $(PYTHON:%=core/client/%) "$(DEST)/lib/pioche/"
	install -m 755 $(BUILD)/lib/pioche/pioche_sqlite.so $(BUILD)/lib/pioche/pioche_read.so "$(DEST)/lib/pioche/"
	install -m 644 core/client/pioche.h core/client/pioche_nccl.h "$(DEST)/include/"
	install -m 644 recipes/*.lua "$(DEST)/share/pioche/recipes/"
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' core/client/pioche.pc.in \
	  > "$(DEST)/lib/pkgconfig/pioche.pc"

clean:
	rm -rf $(BUILD)

help:
	@echo "make build     install what is missing (Debian), build build/pioche and the libraries"
	@echo "make demo      build, then sweep a small language model on real text (TEXT=any.txt)"
	@echo "make test      build, then run every test (FILTER=text picks; SAN=address,undefined)"
	@echo "                 (PIOCHE_PEERS=DIR: where the other trackers are installed, else build/peers;"
	@echo "                 PIOCHE_TORCH=DIR: where PyTorch is, else build/torch)"
	@echo "make test-crash  10,000 SIGKILLs, and every way a disk can fail (SEED=n repeats)"
	@echo "make test-pod  1,016 ranks on a Slurm of 127 nodes in a box (NODES=127 RANKS=8 TRIES=3)"
	@echo "make test-gpu  what needs a GPU, on those that are here; each test names what it lacks"
	@echo "make test-threads  what is concurrent, under ThreadSanitizer"
	@echo "make drills    every failure that 'pioche drill' can bring about here: a table of their times"
	@echo "make cuda      build gpt_cuda with nvcc, where there is one; says what is left out"
	@echo "make bench     measure; prints tables, writes build/bench.json (FILTER=text SHORT=1)"
	@echo "make bench-promotion  successive halving of a language model, by stopping and by promotion (SHORT=1)"
	@echo "make bench-sweep  what searches find, and Optuna's, on test functions (FILTER=text SHORT=1 SEEDS=20)"
	@echo "make lint      check layout, includes, sizes, forbidden calls, Lua"
	@echo "make fuzz      run each fuzzer for FUZZ_S=600 seconds "
	@echo "make install   PREFIX=/usr/local DESTDIR="
	@echo "make clean     remove build/"

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
