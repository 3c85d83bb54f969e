# pioche: one Makefile, plain. `make help` lists the targets.

BUILD   ?= build
PREFIX  ?= /usr/local
DESTDIR ?=
CC      ?= gcc
SAN     ?=
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
LDLIBS   = $(shell pkg-config --libs $(PACKAGES) 2>/dev/null) -lm -ldl -lpthread
LDFLAGS  = $(SANFLAGS) -pthread

# The client library needs libc and libcrypto alone: no SQLite, Lua, jansson or libuv.
LIB_SRC  := $(wildcard core/client/*.c) $(filter-out core/base/json.c core/base/safetensors.c,$(wildcard core/base/*.c)) \
            $(addprefix core/sys/,fs.c fs_tree.c hash.c journal.c shm.c sock.c)
CORE_SRC := $(filter-out core/cli/main.c,$(wildcard core/*/*.c))
LUA_SRC  := $(shell find lua -name '*.lua' 2>/dev/null | LC_ALL=C sort)
LIB_OBJ  := $(LIB_SRC:%.c=$(BUILD)/%.o)
CORE_OBJ := $(CORE_SRC:%.c=$(BUILD)/%.o) $(BUILD)/gen/lua_modules.o $(BUILD)/gen/schema.o

GPT_SRC    := $(wildcard experiments/gpt/*.c)
GPT_OBJ    := $(GPT_SRC:%.c=$(BUILD)/%.o)
GPT_CFLAGS ?= -std=gnu11 -O3 -march=native -fno-math-errno -fno-trapping-math -fopenmp-simd \
              -ffp-contract=off -g $(WARN) $(SANFLAGS)

TESTS := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))

.PHONY: all build demo test bench lint fuzz install clean help deps gpt lib
.DELETE_ON_ERROR:
.SECONDARY:

build: $(BUILD)/pioche lib
all: build gpt
lib: $(BUILD)/lib/libpioche.so $(BUILD)/lib/libpioche.a $(BUILD)/lib/pioche/pioche.py
gpt: $(BUILD)/gpt

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
	$(Q)$(CC) $(LDFLAGS) -shared -Wl,-soname,libpioche.so -o $@ $^ -lcrypto -lpthread

$(BUILD)/lib/pioche/pioche.py: core/client/pioche.py
	@mkdir -p $(@D)
	$(Q)cp $< $@

$(BUILD)/gpt: $(GPT_OBJ) $(BUILD)/lib/libpioche.a
	@echo "LD $@"
	$(Q)$(CC) $(LDFLAGS) -o $@ $^ -lopenblas -lcrypto -lm -lpthread

$(BUILD)/experiments/gpt/%.o: experiments/gpt/%.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(GPT_CFLAGS) -Icore -D_GNU_SOURCE -MMD -MP -c -o $@ $<

$(BUILD)/%.o: %.c
	@mkdir -p $(@D)
	@echo "CC $<"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) -c -o $@ $<

# Lua modules and the schema travel inside the executable.
$(BUILD)/gen/lua_modules.c: $(LUA_SRC) core/bind/embed.sh
	@mkdir -p $(@D)
	@echo "EMBED lua/"
	$(Q)sh core/bind/embed.sh lua $(LUA_SRC) > $@

$(BUILD)/gen/schema.c: core/store/schema.sql core/bind/embed.sh
	@mkdir -p $(@D)
	@echo "EMBED $<"
	$(Q)sh core/bind/embed.sh text pio_schema_sql $< > $@

$(BUILD)/gen/%.o: $(BUILD)/gen/%.c
	$(Q)$(CC) -std=gnu11 $(SANFLAGS) -fPIC -c -o $@ $<

$(BUILD)/tests/test_gpt_%: tests/unit/test_gpt_%.c $(filter-out %/main.o,$(GPT_OBJ)) $(BUILD)/lib/libpioche.a
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) -Iexperiments $(CFLAGS) $(LDFLAGS) -o $@ $^ -lcmocka -lopenblas -lcrypto -lm -lpthread

$(BUILD)/tests/%: tests/unit/%.c $(CORE_OBJ)
	@mkdir -p $(@D)
	@echo "LD $@"
	$(Q)$(CC) $(CPPFLAGS) $(CFLAGS) $(LDFLAGS) -o $@ $(filter %.c %.o,$^) -lcmocka $(LDLIBS)

clean:
	rm -rf $(BUILD)

-include $(shell find $(BUILD) -name '*.d' 2>/dev/null)
