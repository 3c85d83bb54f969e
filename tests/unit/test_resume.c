#include <errno.h>

#include "base/mem.h"
#include "base/safetensors.h"
#include "client/resume.h"
#include "save_fixture.h"
#include "sys/hash.h"

typedef struct reported {
	int64_t step, bytes[8];
	uint32_t writers, round, syncs, files;
	int failures;
	char role[8][64], path[8][1024], sha256[8][65];
} reported;

/* How many CHECKPOINT records of the run's journal tell files, the newest of them in *r;
 * the others tell of failures. */
static int read_reports(reported *r, const char *dir)
{
	pio_journal_reader *reader;
	pio_journal_header header;
	pio_record record;
	int count = 0;
	check_ok(pio_journal_reader_open(&reader, &header, path_in(dir, "journal.0"), &err));
	while (pio_journal_next(reader, &record, NULL) == 1) {
		if (record.type != PIO_RECORD_CHECKPOINT)
			continue;
		pio_save save;
		check_ok(pio_save_get(&save, record.payload, record.size_bytes, &err));
		r->failures += save.count == 0;
		if (!save.count)
			continue;
		count++;
		assert_true(save.stall_ns > 0 && save.total_ns >= save.stall_ns && save.hash_ns > 0);
		*r = (reported){ .step = save.step, .writers = save.writers, .round = save.round, .syncs = save.fsyncs,
		                 .files = save.count, .failures = r->failures };
		assert_true(r->files <= 8);
		for (uint32_t i = 0; i < r->files; i++) {
			const pio_save_file *f = &save.files[i];
			snprintf(r->role[i], sizeof r->role[i], "%.*s", (int)f->role_bytes, f->role);
			snprintf(r->path[i], sizeof r->path[i], "%.*s", (int)f->path_bytes, f->path);
			snprintf(r->sha256[i], sizeof r->sha256[i], "%.*s", (int)f->sha256_bytes, f->sha256);
			r->bytes[i] = (int64_t)f->size_bytes;
		}
		pio_free(save.files);
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
	ok(pio_checkpoint_add(c, "model", "b/mask", PIO_U8, 1, three, NULL, mask));
	ok(pio_checkpoint_add(c, "model", "z \"w\"\n", PIO_F32, 2, shape, NULL, weights));
	ok(pio_checkpoint_add(c, "model", "a", PIO_F32, 2, none, NULL, NULL));
	ok(pio_checkpoint_add(c, "extra", "step", PIO_I64, 0, NULL, NULL, steps_done));
	ok(pio_checkpoint_add(c, "model", "step", PIO_I64, 0, NULL, NULL, steps_done));
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
	assert_string_equal(header.metadata, "{\"format\":\"pioche\"}"); /* the same at every step and rank */
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
	ok(pio_checkpoint_commit(&c, 0));
	pio_fs_counts after = pio_fs_counts_get();
	assert_null(c);
	assert_in_range(after.dir_syncs - before.dir_syncs, 2, 2);
	ok(pio_checkpoint_begin(&c, b.run, -7, 1)); /* the same step again: files of its own */
	add_all(c);
	ok(pio_checkpoint_commit(&c, 0));
	ok(pio_close(&b.run, 0));
	assert_int_equal(read_reports(&r, b.dir), 2);
	assert_true(r.step == -7);
	assert_int_equal(r.writers, 1);
	assert_int_equal(r.syncs, 4);
	assert_int_equal(r.files, 2);
	assert_string_equal(r.role[0], "extra");
	assert_string_equal(r.role[1], "model");
	assert_int_equal(r.round, 1);
	assert_non_null(strstr(r.path[1], "/step--7/rank-0.model."));
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
		                           bad[i].shape, NULL, bad[i].data), PIO_EINVAL, bad[i].why);
		ok(pio_checkpoint_add(c, "model", "good", PIO_F32, 1, one, NULL, weights));
		refused(pio_checkpoint_commit(&c, 0), PIO_EINVAL, bad[i].why);
		assert_null(c);
	}
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	refused(pio_checkpoint_commit(&c, 0), PIO_EINVAL, "no tensors");
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, one, NULL, weights));
	ok(pio_checkpoint_add(c, "model", "w", PIO_U8, 1, one, NULL, weights));
	refused(pio_checkpoint_commit(&c, 0), PIO_EINVAL, "\"w\" of role \"model\" was added twice");
	ok(pio_checkpoint_begin(&c, b.run, 1, 1));
	ok(pio_checkpoint_add(c, "model", "w", PIO_F32, 1, one, NULL, weights));
	pio_fs_fault_at("s", 1, EIO);
	assert_true(pio_checkpoint_commit(&c, 0) < 0);
	pio_fs_fault_at("s", 0, 0);
	ok(pio_close(&b.run, 0));
	assert_int_equal(read_reports(&r, b.dir), 0);
	assert_int_equal(r.failures, sizeof bad / sizeof bad[0] + 3);
	bench_close(&b);
}

/* ---- resume ---------------------------------------------------------------------- */

static const int64_t six[] = { 6 }, two[] = { 2 }, two_by_three[] = { 2, 3 };

static void a_tensor_is_read_back_by_the_index(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	float back[6];
	const char *data = path_in(dir, "tab\there\\"), *path = path_in(dir, "index");
	check_ok(pio_fs_write(data, weights, sizeof weights, 0644, &err));
	pio_str_printf(&index, "pioche-resume 2 41\nfile\tmodel\t0\t%s/tab\\there\\\\\ntensor\tw\\n\\\\x\tF32\t0\t2,3\n"
	               "tensor\tpart\tI32\t16\t2\ntensor\tnone\tI32\t16\t0,5\ntensor\tsmall\tF8_E5M2\t3\t2\n", dir);
	check_ok(pio_fs_write(path, index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path, &err));
	assert_true(pio_resume_step(resume) == 41);
	check_ok(pio_resume_tensor(resume, 0, "model", "w\n\\x", PIO_F32, 2, two_by_three, NULL, back, &err));
	assert_memory_equal(back, weights, sizeof weights);
	check_ok(pio_resume_tensor(resume, 3, "model", "part", PIO_I32, 1, two, NULL, back, &err));
	assert_memory_equal(back, weights + 4, 8);
	check_ok(pio_resume_tensor(resume, 0, "model", "none", PIO_I32, 2, (int64_t[]){ 0, 5 }, NULL, NULL, &err));
	check_ok(pio_resume_tensor(resume, 0, "model", "small", PIO_F8_E5M2, 1, two, NULL, back, &err));
	assert_memory_equal(back, (const char *)weights + 3, 2);
	check_fails(pio_resume_tensor(resume, 0, "optim.m", "part", PIO_I32, 1, two, NULL, back, &err),
	            PIO_ENOTFOUND, "no tensor \"part\" of role \"optim.m\"");
	check_fails(pio_resume_tensor(resume, 0, "model", "part", PIO_F32, 1, two, NULL, back, &err), PIO_EINVAL,
	            "is I32 in the checkpoint; F32 expected");
	check_fails(pio_resume_tensor(resume, 0, "model", "w\n\\x", PIO_F32, 1, six, NULL, back, &err), PIO_EINVAL,
	            "has the shape [2,3] in the checkpoint");
	pio_resume_close(&resume);
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

/* A tensor of 4 x 5 x 6, of which element k is k, in the parts that `cut` says. */
enum { A = 4, B = 5, C = 6, ALL = A * B * C };
static const int64_t whole[] = { A, B, C };

typedef struct cut {
	int flat, dim, pieces;
	int64_t ends[4];           /* of the pieces, along it */
} cut;

static const cut cuts[] = {
	{ 0, 0, 1, { A } },           { 0, 0, 2, { 1, A } },      { 0, 0, 4, { 1, 2, 3, A } },
	{ 0, 1, 3, { 2, 2, B } },     { 0, 1, 2, { 4, B } },      { 0, 2, 3, { 1, 3, C } },
	{ 1, 0, 3, { 7, 61, ALL } },  { 1, 0, 4, { 0, 30, 31, ALL } },
};

static int64_t piece_of(const cut *c, int i, int64_t *shape, int64_t *offset, pio_part *part)
{
	int64_t from = i ? c->ends[i - 1] : 0, elements = 1;
	int ndim = c->flat ? 1 : 3;
	for (int d = 0; d < 3; d++) {
		shape[d] = whole[d];
		offset[d] = 0;
	}
	shape[c->dim] = c->ends[i] - from;
	offset[c->dim] = from;
	*part = (pio_part){ 3, whole, offset, c->flat };
	for (int d = 0; d < ndim; d++)
		elements *= shape[d];
	return elements;
}

/* The element of the whole that is number k of a piece, by arithmetic of its own. */
static int32_t element_of(const cut *c, int64_t k, const int64_t *shape, const int64_t *offset)
{
	if (c->flat)
		return (int32_t)(offset[0] + k);
	int64_t z = k % shape[2], y = k / shape[2] % shape[1], x = k / shape[2] / shape[1];
	return (int32_t)(((x + offset[0]) * B + y + offset[1]) * C + z + offset[2]);
}

static void put_list(pio_str *out, const int64_t *list, int count)
{
	for (int i = 0; i < count; i++)
		pio_str_printf(out, i ? ",%lld" : "\t%lld", (long long)list[i]);
}

static void write_cut(const cut *c, const char *dir, const char *index_path)
{
	pio_str index = PIO_STR_INIT, data = PIO_STR_INIT;
	pio_str_puts(&index, "pioche-resume 2 9\n");
	for (int i = 0; i < c->pieces; i++) {
		int64_t shape[3], offset[3];
		pio_part part;
		char name[32];
		int64_t elements = piece_of(c, i, shape, offset, &part);
		snprintf(name, sizeof name, "piece-%d", i);
		pio_str_clear(&data);
		pio_str_append(&data, "head", 4);
		for (int64_t k = 0; k < elements; k++) {
			int32_t element = element_of(c, k, shape, offset);
			pio_str_append(&data, &element, sizeof element);
		}
		check_ok(pio_fs_write(path_in(dir, name), data.data, data.len, 0644, &err));
		pio_str_printf(&index, "file\toptim.m\t%d\t%s/%s\ntensor\tm\tI32\t4", i, dir, name);
		put_list(&index, shape, c->flat ? 1 : 3);
		put_list(&index, whole, 3);
		if (c->flat)
			pio_str_printf(&index, "\t@%lld", (long long)offset[0]);
		else
			put_list(&index, offset, 3);
		pio_str_putc(&index, '\n');
	}
	check_ok(pio_fs_write(index_path, index.data, index.len, 0644, &err));
	pio_str_fini(&index);
	pio_str_fini(&data);
}

static void read_cut(const pio_resume *resume, const cut *c)
{
	int32_t back[ALL + 1];
	for (int i = 0; i < c->pieces; i++) {
		int64_t shape[3], offset[3];
		pio_part part;
		int64_t elements = piece_of(c, i, shape, offset, &part);
		memset(back, 0xee, sizeof back);
		check_ok(pio_resume_tensor(resume, i, "optim.m", "m", PIO_I32, c->flat ? 1 : 3, shape, &part, back,
		                           &err));
		for (int64_t k = 0; k < elements; k++)
			assert_int_equal(back[k], element_of(c, k, shape, offset));
		assert_int_equal(back[elements], (int32_t)0xeeeeeeee); /* nothing behind it */
	}
}

static void parts_are_read_as_any_other_parts(void **state)
{
	(void)state;
	char *dir = scratch_new();
	for (size_t i = 0; i < sizeof cuts / sizeof cuts[0]; i++) {
		pio_resume *resume;
		const char *index = path_in(dir, "index");
		write_cut(&cuts[i], dir, index);
		check_ok(pio_resume_open(&resume, index, &err));
		for (size_t j = 0; j < sizeof cuts / sizeof cuts[0]; j++)
			read_cut(resume, &cuts[j]);
		int32_t back[ALL];
		check_ok(pio_resume_tensor(resume, 0, "optim.m", "m", PIO_I32, 3, whole, NULL, back, &err));
		for (int k = 0; k < ALL; k++)
			assert_int_equal(back[k], k);
		pio_resume_close(&resume);
	}
	scratch_remove(dir);
}

/* Columns of a matrix that is larger than what is read at once. */
static void narrow_columns_of_a_large_tensor(void **state)
{
	(void)state;
	enum { ROWS = 3000, COLUMNS = 500 };
	static int32_t matrix[ROWS * COLUMNS], column[ROWS * 3];
	static const int64_t all[] = { ROWS, COLUMNS }, narrow[] = { ROWS, 3 };
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	for (int i = 0; i < ROWS * COLUMNS; i++)
		matrix[i] = i;
	check_ok(pio_fs_write(path_in(dir, "data"), matrix, sizeof matrix, 0644, &err));
	pio_str_printf(&index, "pioche-resume 2 9\nfile\tmodel\t0\t%s/data\ntensor\tw\tI32\t0\t%d,%d\n", dir, ROWS,
	               COLUMNS);
	check_ok(pio_fs_write(path_in(dir, "index"), index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path_in(dir, "index"), &err));
	for (int64_t at = 0; at <= COLUMNS - 3; at += 71) {
		const int64_t offset[] = { 0, at };
		const pio_part part = { 2, all, offset, 0 };
		check_ok(pio_resume_tensor(resume, 0, "model", "w", PIO_I32, 2, narrow, &part, column, &err));
		for (int i = 0; i < ROWS * 3; i++)
			assert_int_equal(column[i], i / 3 * COLUMNS + at + i % 3);
	}
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

static void one_that_each_rank_saved_is_read_by_its_rank(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	float back;
	check_ok(pio_fs_write(path_in(dir, "data"), weights, sizeof weights, 0644, &err));
	pio_str_puts(&index, "pioche-resume 2 9\n");
	for (int rank = 2; rank >= 0; rank--)
		pio_str_printf(&index, "file\textra\t%d\t%s/data\ntensor\trng\tF32\t%d\t\n", rank, dir, rank * 4);
	check_ok(pio_fs_write(path_in(dir, "index"), index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path_in(dir, "index"), &err));
	for (int rank = 0; rank < 4; rank++) {
		check_ok(pio_resume_tensor(resume, rank, "extra", "rng", PIO_F32, 0, NULL, NULL, &back, &err));
		assert_true(back == weights[rank < 3 ? rank : 0]);
	}
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

/* Of two ranks' own, each too large for a file, and of a third's that is smaller. */
static void one_in_slices_is_its_ranks(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	const int64_t offset[] = { 1 };
	const pio_part part = { 1, six, offset, 0 };
	float back[6], own[2][6] = { { 5, 6, 1, 2, 3, 4 }, { 1, 2, 3, 4, 5, 6 } };
	const float small[2] = { 1, 2 };
	check_ok(pio_fs_write(path_in(dir, "data"), own[1], sizeof own[1], 0644, &err));
	pio_str_puts(&index, "pioche-resume 2 9\n");
	for (int rank = 2; rank > 0; rank--)
		pio_str_printf(&index, "file\textra\t%d\t%s/data\nslice\tw\tF32\t%d\t4\t6\t2\n"
		               "slice\tw\tF32\t%d\t2\t6\t0\n", rank, dir, rank == 1 ? 0 : 8, rank == 1 ? 16 : 0);
	pio_str_printf(&index, "file\textra\t3\t%s/data\ntensor\tw\tF32\t0\t2\n", dir);
	check_ok(pio_fs_write(path_in(dir, "index"), index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path_in(dir, "index"), &err));
	for (int rank = 0; rank < 6; rank++) {
		const float *has = own[rank == 2];
		if (rank == 3) {
			check_ok(pio_resume_tensor(resume, 3, "extra", "w", PIO_F32, 1, two, NULL, back, &err));
			assert_memory_equal(back, small, sizeof small);
			continue;
		}
		check_ok(pio_resume_tensor(resume, rank, "extra", "w", PIO_F32, 1, six, NULL, back, &err));
		assert_memory_equal(back, has, sizeof own[0]);
		check_ok(pio_resume_tensor(resume, rank, "extra", "w", PIO_F32, 1, two, &part, back, &err));
		assert_memory_equal(back, has + 1, sizeof small);
	}
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

static void a_missing_part_is_told(void **state)
{
	(void)state;
	char *dir = scratch_new();
	pio_str index = PIO_STR_INIT;
	pio_resume *resume;
	float back[6];
	check_ok(pio_fs_write(path_in(dir, "data"), weights, sizeof weights, 0644, &err));
	pio_str_printf(&index, "pioche-resume 2 9\nfile\tmodel\t0\t%s/data\ntensor\tw\tF32\t0\t4\t6\t0\n", dir);
	check_ok(pio_fs_write(path_in(dir, "index"), index.data, index.len, 0644, &err));
	check_ok(pio_resume_open(&resume, path_in(dir, "index"), &err));
	check_fails(pio_resume_tensor(resume, 0, "model", "w", PIO_F32, 1, six, NULL, back, &err), PIO_ECORRUPT,
	            "4 of the 6 elements");
	const int64_t offset[] = { 1 };
	const pio_part part = { 1, six, offset, 0 };
	check_ok(pio_resume_tensor(resume, 0, "model", "w", PIO_F32, 1, two, &part, back, &err));
	assert_memory_equal(back, weights + 1, 8);
	pio_resume_close(&resume);
	pio_str_fini(&index);
	scratch_remove(dir);
}

static void a_broken_index_names_its_line(void **state)
{
	(void)state;
#define HEAD "pioche-resume 2 5\n"
#define FILE_LINE HEAD "file\tmodel\t0\t/a\n"
	static const struct { const char *text, *why; } bad[] = {
		{ "", ":1: \"pioche-resume 2 STEP\"" },
		{ "pioche-resume 1 5\n", ":1: \"pioche-resume 2 STEP\"" },
		{ "pioche-resume 2 x\n", ":1: the step" },
		{ "pioche-resume 2 5", ":1: the last line has no end" },
		{ HEAD "model\tw\n", ":2: \"file\", \"tensor\" or \"slice\" expected" },
		{ HEAD "file\tmodel\t0\n", ":2: 3 fields: 4 expected" },
		{ HEAD "file\tmodel\tx\t/a\n", ":2: the rank" },
		{ HEAD "file\tmodel\t0\ta\n", ":2: the path" },
		{ HEAD "file\tmodel\\\t0\t/a\n", ":2: a backslash" },
		{ HEAD "tensor\tw\tF32\t0\t1\n", ":2: a tensor before the first file" },
		{ FILE_LINE "tensor\tw\tF32\t0\n", ":3: 4 fields: 5 or 7" },
		{ FILE_LINE "tensor\tw\tF32\t0\t1\t1\t0\t0\n", ":3: more than 7" },
		{ FILE_LINE "slice\tw\tF32\t0\t1\n", ":3: 5 fields: 7 expected of a slice" },
		{ FILE_LINE "tensor\tw\tF99\t4\t0\n", ":3: unknown dtype" },
		{ FILE_LINE "tensor\tw\tF32\tq\t0\n", ":3: the offset" },
		{ FILE_LINE "tensor\tw\tF32\t0\t-1\n", ":3: the shape" },
		{ FILE_LINE "tensor\tw\tF32\t0\t2,\n", ":3: the shape" },
		{ FILE_LINE "tensor\tw\tF32\t0\t2\t4\t3\n", ":3: the shape or the part makes no sense" },
		{ FILE_LINE "tensor\tw\tF32\t0\t2\t2,2\t1\n", ":3: the shape" },
		{ FILE_LINE "tensor\tw\tF32\t0\t4611686018427387904\n", ":3: the tensor would not fit" },
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
		cmocka_unit_test(parts_are_read_as_any_other_parts),
		cmocka_unit_test(narrow_columns_of_a_large_tensor),
		cmocka_unit_test(one_that_each_rank_saved_is_read_by_its_rank),
		cmocka_unit_test(one_in_slices_is_its_ranks),
		cmocka_unit_test(a_missing_part_is_told),
		cmocka_unit_test(a_broken_index_names_its_line),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
