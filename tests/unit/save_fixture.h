/* save_fixture.h: a run of its own that saves, and what of it was reported. */
#ifndef PIO_TEST_SAVE_FIXTURE_H
#define PIO_TEST_SAVE_FIXTURE_H

#include <stdbool.h>
#include <string.h>

#include "base/mem.h"
#include "client_fixture.h"
#include "sys/journal.h"
#include "sys/save.h"

typedef struct bench {
	char *home, *dir;
	pio_run *run;
} bench;

static inline void bench_open(bench *b)
{
	b->home = scratch_new();
	setenv("PIOCHE_SHM", b->home, 1);
	setenv(PIO_ENV_STORE, b->home, 1);
	unsetenv(PIO_ENV_RING);
	ok(pio_open(&b->run, "saves"));
	b->dir = strdup(pio_info_get(b->run)->dir);
}

static inline void bench_close(bench *b)
{
	ok(pio_close(&b->run, 0));
	unsetenv(PIO_ENV_STORE);
	unsetenv("PIOCHE_SHM");
	free(b->dir);
	scratch_remove(b->home);
}

/* ---- what was reported ------------------------------------------------------------ */

typedef struct told {
	int64_t step, bytes;
	uint32_t round, files, fsyncs;
	bool asynchronous;
	char sync;
	int64_t stall_ns, total_ns;
	char failure[200], path[40][600];
	uint32_t part[40];
} told;

static inline int listen(told *list, int max, const char *dir)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int count = 0;
	check_ok(pio_journal_reader_open(&reader, &header, path_in(dir, "journal.0"), &err));
	while (pio_journal_next(reader, &record, NULL) == 1) {
		pio_save save;
		if (record.type != PIO_RECORD_CHECKPOINT)
			continue;
		assert_true(count < max);
		told *t = &list[count++];
		check_ok(pio_save_get(&save, record.payload, record.size_bytes, &err));
		*t = (told){ .step = save.step, .round = save.round, .files = save.count,
		             .fsyncs = save.fsyncs, .sync = save.sync, .asynchronous = save.asynchronous,
		             .stall_ns = save.stall_ns, .total_ns = save.total_ns };
		snprintf(t->failure, sizeof t->failure, "%.*s", (int)save.failure_bytes,
		         save.failure ? save.failure : "");
		assert_true(save.count <= 40);
		for (uint32_t i = 0; i < save.count; i++) {
			snprintf(t->path[i], sizeof t->path[i], "%.*s", (int)save.files[i].path_bytes,
			         save.files[i].path);
			t->part[i] = save.files[i].part;
			t->bytes += (int64_t)save.files[i].size_bytes;
		}
		pio_free(save.files);
	}
	pio_journal_reader_close(reader);
	return count;
}

#endif
