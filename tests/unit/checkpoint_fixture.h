/* checkpoint_fixture.h: staged safetensors files and the records that report
 * them. */
#ifndef PIO_TEST_CHECKPOINT_FIXTURE_H
#define PIO_TEST_CHECKPOINT_FIXTURE_H

#include "store_fixture.h"

#include "store/checkpoint.h"
#include "store/object.h"
#include "store/verify.h"
#include "sys/hash.h"
#include "sys/save.h"

typedef struct shard {
	char path[512];
	char sha256[PIO_SHA256_HEX + 1];
	uint64_t bytes;
} shard;

/* A file with one tensor of two floats, `salt` the first. */
static inline shard stage(const fixture *f, const char *name, float salt)
{
	shard s;
	static const char header[] = "{\"w\\t\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}    ";
	uint64_t n = sizeof header - 1;
	float data[2] = { salt, 1 };
	pio_str bytes = PIO_STR_INIT;
	pio_str_append(&bytes, &n, 8);
	pio_str_append(&bytes, header, n);
	pio_str_append(&bytes, data, sizeof data);
	check_ok(pio_fs_mkdirs(path_in(f->dir, "staging/" ULID_1), 0777, &err));
	snprintf(s.path, sizeof s.path, "%s/staging/" ULID_1 "/%s", f->dir, name);
	check_ok(pio_fs_write(s.path, bytes.data, bytes.len, 0666, &err));
	check_ok(pio_sha256_bytes(bytes.data, bytes.len, s.sha256, &err));
	s.bytes = bytes.len;
	pio_str_fini(&bytes);
	return s;
}

/* A report as clients of before version 5 of the store write it. */
static inline void put_checkpoint(pio_journal_writer *w, uint32_t rank, int64_t step, uint32_t writers,
                                  const shard *shards, uint32_t count)
{
	static const char *const roles[] = { "model", "optim.m" };
	pio_str p = PIO_STR_INIT;
	pio_record_put_u32(&p, rank);
	pio_record_put_i64(&p, 100 + step);
	pio_record_put_i64(&p, step);
	pio_record_put_u32(&p, writers);
	pio_record_put_i64(&p, 1000 + rank);
	pio_record_put_u32(&p, 2);
	pio_record_put_u32(&p, count);
	for (uint32_t i = 0; i < count; i++) {
		pio_record_put_str(&p, roles[i], strlen(roles[i]));
		pio_record_put_str(&p, shards[i].path, strlen(shards[i].path));
		pio_record_put_i64(&p, (int64_t)shards[i].bytes);
		pio_record_put_str(&p, shards[i].sha256, PIO_SHA256_HEX);
	}
	put_record(w, PIO_RECORD_CHECKPOINT, &p);
}

/* The report of one file, a model; none: a failure. */
static inline void put_save(pio_journal_writer *w, pio_save save, const shard *s)
{
	pio_str p = PIO_STR_INIT;
	pio_save_file file = { .role = "model", .role_bytes = 5 };
	save.time_ns = 100 + save.step;
	save.count = s ? 1 : 0;
	save.sync = save.sync ? save.sync : PIO_SAVE_FSYNC;
	save.files = &file;
	if (s) {
		file.path = s->path;
		file.path_bytes = strlen(s->path);
		file.sha256 = s->sha256;
		file.sha256_bytes = PIO_SHA256_HEX;
		file.size_bytes = s->bytes;
	} else {
		save.failure = "No space left on device";
		save.failure_bytes = strlen(save.failure);
	}
	pio_save_put(&p, &save);
	put_record(w, PIO_RECORD_CHECKPOINT, &p);
}

/* One checkpoint of one writer with two files at each of the steps. */
static inline void put_checkpoints(const fixture *f, const int64_t *steps, int count)
{
	pio_journal_writer *w = journal_up(f, 1);
	for (int i = 0; i < count; i++) {
		char name[64];
		snprintf(name, sizeof name, "m%d", i);
		shard shards[2];
		shards[0] = stage(f, name, (float)steps[i]);
		snprintf(name, sizeof name, "o%d", i);
		shards[1] = stage(f, name, 0.5f); /* the same bytes in every checkpoint */
		put_checkpoint(w, 0, steps[i], 1, shards, 2);
	}
	journal_down(w);
}

static inline void check_all_there(fixture *f, int64_t checkpoints, int64_t objects)
{
	pio_verify_result r;
	check_sound(f->store);
	assert_int_equal(sql_int(f->store, "SELECT count(*) FROM checkpoint"), checkpoints);
	check_ok(pio_store_verify(&r, f->store, NULL, NULL, NULL, &err));
	assert_int_equal(r.objects, objects);
	assert_int_equal(r.bad + r.missing, 0);
}

#endif
