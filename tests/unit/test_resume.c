#include <errno.h>

#include "base/safetensors.h"
#include "client/env.h"
#include "client/pioche.h"
#include "client/resume.h"
#include "heard.h"
#include "sys/hash.h"
#include "test.h"

#define ok(call)                                               \
	do {                                                   \
		if ((call) != 0)                               \
			fail_msg("%s: %s", #call, pio_error()); \
	} while (0)

#define refused(call, code, text)                                                    \
	do {                                                                         \
		assert_int_equal((call), -(code));                                   \
		if (!strstr(pio_error(), (text)))                                    \
			fail_msg("message \"%s\" lacks \"%s\"", pio_error(), (text)); \
	} while (0)

typedef struct bench {
	char *home, *dir;
	pio_run *run;
} bench;

static void bench_open(bench *b)
{
	b->home = scratch_new();
	setenv("PIOCHE_SHM", b->home, 1);
	setenv(PIO_ENV_STORE, b->home, 1);
	unsetenv(PIO_ENV_RING);
	ok(pio_open(&b->run, "checkpoints"));
	b->dir = strdup(pio_info_get(b->run)->dir);
}

static void bench_close(bench *b)
{
	ok(pio_close(&b->run, 0));
	unsetenv(PIO_ENV_STORE);
	unsetenv("PIOCHE_SHM");
	free(b->dir);
	scratch_remove(b->home);
}

typedef struct reported {
	int64_t step, bytes[8];
	uint32_t writers, syncs, files;
	char role[8][64], path[8][1024], sha256[8][65];
} reported;

static void copy_str(pio_cursor *cursor, char *to, size_t to_bytes)
{
	size_t n;
	const char *text = pio_cursor_str(cursor, &n);
	assert_true(n < to_bytes);
	memcpy(to, text, n);
	to[n] = 0;
}

/* The CHECKPOINT records of the run's journal; the newest in *r. */
static int read_reports(reported *r, const char *dir)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int count = 0;
	check_ok(pio_journal_reader_open(&reader, &header, path_in(dir, "journal.0"), &err));
	while (pio_journal_next(reader, &record, NULL) == 1) {
		pio_cursor c = { record.payload, record.payload + record.size_bytes, 0 };
		if (record.type != PIO_RECORD_CHECKPOINT)
			continue;
		count++;
		pio_cursor_u32(&c), pio_cursor_i64(&c);
		r->step = pio_cursor_i64(&c);
		r->writers = pio_cursor_u32(&c);
		assert_true(pio_cursor_i64(&c) > 0);
		r->syncs = pio_cursor_u32(&c);
		r->files = pio_cursor_u32(&c);
		assert_true(r->files <= 8);
		for (uint32_t i = 0; i < r->files; i++) {
			copy_str(&c, r->role[i], sizeof r->role[i]);
			copy_str(&c, r->path[i], sizeof r->path[i]);
			r->bytes[i] = pio_cursor_i64(&c);
			copy_str(&c, r->sha256[i], sizeof r->sha256[i]);
		}
		assert_false(c.bad);
		assert_true(c.at == c.end);
	}
	pio_journal_reader_close(reader);
	return count;
}

static const float weights[6] = { 1, 2, 3, -0.0f, 5, 6 };
static const int64_t steps_done[1] = { (INT64_C(1) << 53) + 1 };
static const uint8_t mask[3] = { 1, 0, 1 };

static void add_all(pio_checkpoint *c)
{
	static const int64_t shape[2] = { 2, 3 }, three[1] = { 3 }, none[2] = { 0, 7 };
	ok(pio_checkpoint_add(c, "model", "b/mask", PIO_U8, 1, three, mask));
	ok(pio_checkpoint_add(c, "model", "z \"w\"\n", PIO_F32, 2, shape, weights));
	ok(pio_checkpoint_add(c, "model", "a", PIO_F32, 2, none, NULL));
	ok(pio_checkpoint_add(c, "extra", "step", PIO_I64, 0, NULL, steps_done));
	ok(pio_checkpoint_add(c, "model", "step", PIO_I64, 0, NULL, steps_done));
}

static void check_file(const char *path, const char *role, int64_t bytes, const char *sha256)
{
	pio_str text = PIO_STR_INIT;
	pio_safetensors header;
	uint64_t header_bytes;
	char hex[PIO_SHA256_HEX + 1];
	int64_t size_bytes;
	check_ok(pio_sha256_file(path, hex, &size_bytes, &err));
	assert_string_equal(hex, sha256);
	assert_int_equal(size_bytes, bytes);
	check_ok(pio_fs_read(&text, path, &err));
	check_ok(pio_safetensors_header_bytes(&header_bytes, (uint8_t *)text.data, bytes, path, &err));
	assert_int_equal((8 + header_bytes) % 4096, 0);
	check_ok(pio_safetensors_parse(&header, text.data + 8, header_bytes, bytes, path, &err));
	assert_non_null(strstr(header.metadata, "\"step\":\"-7\""));
	if (strcmp(role, "model") == 0) { /* large elements first, then by name */
		assert_int_equal(header.count, 4);
		assert_string_equal(header.tensors[0].name, "step");
		assert_string_equal(header.tensors[1].name, "a");
		assert_string_equal(header.tensors[2].name, "z \"w\"\n");
		assert_string_equal(header.tensors[3].name, "b/mask");
		assert_memory_equal(text.data + header.tensors[2].offset, weights, sizeof weights);
	}
	pio_safetensors_fini(&header);
	pio_str_fini(&text);
}

static void a_checkpoint_is_files_and_one_report(void **state)
{
	(void)state;
	bench b;
	pio_checkpoint *c;
	reported r = { 0 };
	bench_open(&b);
	pio_fs_counts before = pio_fs_counts_get();
	ok(pio_checkpoint_begin(&c, b.run, -7, 1));
	add_all(c);
	ok(pio_checkpoint_commit(&c));
	pio_fs_counts after = pio_fs_counts_get();
	assert_null(c);
	assert_in_range(after.dir_syncs - before.dir_syncs, 2, 2);
	ok(pio_checkpoint_begin(&c, b.run, -7, 1)); /* the same step again: files of its own */
	add_all(c);
	ok(pio_checkpoint_commit(&c));
	ok(pio_close(&b.run, 0));
	assert_int_equal(read_reports(&r, b.dir), 2);
	assert_true(r.step == -7);
	assert_int_equal(r.writers, 1);
	assert_int_equal(r.syncs, 4);
	assert_int_equal(r.files, 2);
	assert_string_equal(r.role[0], "extra");
	assert_string_equal(r.role[1], "model");
	assert_non_null(strstr(r.path[1], "/step--7/rank-0.model.1.safetensors"));
	for (uint32_t i = 0; i < 2; i++)
		check_file(r.path[i], r.role[i], r.bytes[i], r.sha256[i]);
	bench_close(&b);
}

static void bad_tensors_spoil_the_checkpoint(void **state)
{
	(void)state;
	static const int64_t negative[1] = { -1 }, huge[3] = { INT64_MAX, INT64_MAX, 8 }, one[1] = { 1 };
	bench b;
	pio_checkpoint *c;
	reported r = { 0 };
	bench_open(&b);
	refused(pio_checkpoint_begin(&c, b.run, 1, 2), PIO_EINVAL, "1 to 1");
	const struct {
		const char *role, *name;
		int dtype, ndim;
		const int64_t *shape;
		const void *data;
		const char *why;
	} bad[] = {
		{ "model", "w", PIO_F32, 1, one, NULL, "data is NULL" },
		{ "model", "w", PIO_F32, 1, negative, weights, "dimension 0 is -1" },
		{ "model", "w", PIO_F32, 3, huge, weights, "too large" },
		{ "model", "w", PIO_F32, 33, one, weights, "33 dimensions" },
		{ "model", "w", PIO_F32, 1, NULL, weights, "no shape" },
		{ "model", "w", 99, 1, one, weights, "99 is no element type" },
		{ "a/b", "w", PIO_F32, 1, one, weights, "role \"a/b\"" },
		{ "..", "w", PIO_F32, 1, one, weights, "role \"..\"" },
		{ "model", "", PIO_F32, 1, one, weights, "empty" },
		{ "model", "__metadata__", PIO_F32, 1, one, weights, "taken by the file format" },
	};
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		ok(pio_checkpoint_begin(&c, b.run, 1, 1));
		refused(pio_checkpoint_add(c, bad[i].role, bad[i].name, (pio_dtype)bad[i].dtype, bad[i].ndim,
		                           bad[i].shape, bad[i].data), PIO_EINVAL, bad[i].why);
		ok(pio_checkpoint_add(c, "model", "good", PIO_F32, 1, one, weights));
		refused(pio_checkpoint_commit(&c), PIO_EINVAL, bad[i].why);
		assert_null(c);
	}
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	refused(pio_checkpoint_commit(&c), PIO_EINVAL, "no tensors");
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, one, weights));
	ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, one, weights));
	refused(pio_checkpoint_commit(&c), PIO_EINVAL, "\"w\" of role \"model\" was added twice");
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, one, weights));
	pio_fs_fault_at("s", 1, EIO);
	assert_true(pio_checkpoint_commit(&c) < 0);
	pio_fs_fault_at("s", 0, 0);
	ok(pio_close(&b.run, 0));
	assert_int_equal(read_reports(&r, b.dir), 0);
	bench_close(&b);
}

/* ---- resume ---------------------------------------------------------------------- */

static void a_tensor_is_read_back_by_the_index(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	float back[6];
	const char *data = path_in(dir, "tab\there\\"), *path = path_in(dir, "index");
	check_ok(pio_fs_write(data, weights, sizeof weights, 0644, &err));
	pio_str_printf(&index, "pioche-resume 1 41\nmodel\tw\\n\\\\x\tF32\t24\t0\t%s/tab\\there\\\\\n"
	               "model\tpart\tI32\t8\t16\t%s/tab\\there\\\\\n", dir, dir);
	check_ok(pio_fs_write(path, index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path, &err));
	assert_true(pio_resume_step(resume) == 41);
	check_ok(pio_resume_tensor(resume, "model", "w\n\\x", PIO_F32, 24, back, &err));
	assert_memory_equal(back, weights, sizeof weights);
	check_ok(pio_resume_tensor(resume, "model", "part", PIO_I32, 8, back, &err));
	assert_memory_equal(back, weights + 4, 8);
	check_fails(pio_resume_tensor(resume, "optim.m", "part", PIO_I32, 8, back, &err), PIO_ENOTFOUND,
	            "no tensor \"part\" of role \"optim.m\"");
	check_fails(pio_resume_tensor(resume, "model", "part", PIO_F32, 8, back, &err), PIO_EINVAL,
	            "is I32 of 8 bytes");
	check_fails(pio_resume_tensor(resume, "model", "part", PIO_I32, 4, back, &err), PIO_EINVAL,
	            "I32 of 4 bytes expected");
	pio_resume_close(&resume);
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

static void a_broken_index_names_its_line(void **state)
{
	(void)state;
	static const struct { const char *text, *why; } bad[] = {
		{ "", ":1: \"pioche-resume 1 STEP\"" },
		{ "pioche-resume 2 5\n", ":1: \"pioche-resume 1 STEP\"" },
		{ "pioche-resume 1 x\n", ":1: the step" },
		{ "pioche-resume 1 5", ":1: the last line has no end" },
		{ "pioche-resume 1 5\nmodel\tw\tF32\t4\t0\n", ":2: fewer than 6" },
		{ "pioche-resume 1 5\nmodel\tw\tF32\t4\t0\t/a\t/b\n", ":2: more than 6" },
		{ "pioche-resume 1 5\nmodel\tw\tF99\t4\t0\t/a\n", ":2: unknown dtype" },
		{ "pioche-resume 1 5\nmodel\tw\tF32\t-4\t0\t/a\n", ":2: the size" },
		{ "pioche-resume 1 5\nmodel\tw\tF32\t4\tq\t/a\n", ":2: the offset" },
		{ "pioche-resume 1 5\nmodel\tw\tF32\t4\t0\ta\n", ":2: the path" },
		{ "pioche-resume 1 5\nmodel\tw\\\tF32\t4\t0\t/a\n", ":2: a backslash" },
	};
	char *dir = scratch_new();
	const char *path = path_in(dir, "index");
	pio_resume *resume;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		check_ok(pio_fs_write(path, bad[i].text, strlen(bad[i].text), 0644, &err));
		check_fails(pio_resume_open(&resume, path, &err), PIO_ECORRUPT, bad[i].why);
		assert_null(resume);
	}
	scratch_remove(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_checkpoint_is_files_and_one_report),
		cmocka_unit_test(bad_tensors_spoil_the_checkpoint),
		cmocka_unit_test(a_tensor_is_read_back_by_the_index),
		cmocka_unit_test(a_broken_index_names_its_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
