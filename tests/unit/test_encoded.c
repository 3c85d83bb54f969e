#include <math.h>
#include <string.h>
#include <sys/stat.h>
#include <fcntl.h>

#include "cached.h"
#include "test.h"

#include "base/mem.h"
#include "sys/encoded.h"
#include "sys/stored.h"

#define MIB PIO_ENCODED_FRAME_BYTES
#define SHA "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
#define BASE "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210"

typedef struct files {
	char *dir;
	uint8_t *bytes, *anchor;   /* anchor NULL: there is none */
	int64_t size;
} files;

static int give(void *context, void *frame, void *anchor, int64_t n, size_t size_bytes, pio_err *err)
{
	const files *f = context;
	(void)err;
	memcpy(frame, f->bytes + n * MIB, size_bytes);
	if (anchor)
		memcpy(anchor, f->anchor + n * MIB, size_bytes);
	return 0;
}

/* Weights and what they were some steps before: most of each number is the same. */
static files files_up(int64_t size, bool with_anchor)
{
	files f = { .dir = scratch_new(), .size = size, .bytes = malloc((size_t)size + 8),
		    .anchor = with_anchor ? malloc((size_t)size + 8) : NULL };
	uint64_t random = 88172645463325252u;
	for (int64_t i = 0; i < size; i += 4) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		float w = (float)(random % 20000) / 10000 - 1, before = w * (1 + 1e-4f * (float)(random >> 60));
		memcpy(f.bytes + i, &w, sizeof w);
		if (with_anchor)
			memcpy(f.anchor + i, &before, sizeof before);
	}
	check_ok(pio_fs_mkdirs(path_in(f.dir, "objects/01"), 0777, &err));
	check_ok(pio_fs_mkdirs(path_in(f.dir, "objects/fe"), 0777, &err));
	if (with_anchor)
		check_ok(pio_fs_write(path_in(f.dir, "objects/fe/" BASE), f.anchor, (size_t)size, 0444, &err));
	return f;
}

static void files_down(files *f)
{
	free(f->bytes);
	free(f->anchor);
	scratch_remove(f->dir);
}

static const char *plain_path(const files *f)
{
	return path_in(f->dir, "objects/01/" SHA);
}

static const char *encoded_path(const files *f)
{
	return path_in(f->dir, "objects/01/" SHA PIO_STORED_ENCODED);
}

static pio_encoded_head head_of(const files *f, int width)
{
	pio_encoded_head head = { .bytes = f->size, .element_bytes = width, .sha256 = SHA };
	if (f->anchor)
		memcpy(head.anchor, BASE, sizeof head.anchor);
	return head;
}

static int64_t encode(files *f, int width)
{
	int fd;
	int64_t stored = 0;
	struct stat st;
	pio_encoded_head head = head_of(f, width);
	check_ok(pio_fs_open(&fd, encoded_path(f), O_WRONLY | O_CREAT | O_TRUNC, 0666, &err));
	check_ok(pio_encoded_write(&stored, fd, "out", &head, give, f, &err));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_size, stored);
	check_ok(pio_fs_close(&fd, "out", &err));
	return stored;
}

static void check_range(const files *f, pio_stored *s, int64_t at, size_t n)
{
	uint8_t *to = malloc(n + 1);
	check_ok(pio_stored_read(s, to, n, at, &err));
	assert_memory_equal(to, f->bytes + at, n);
	free(to);
}

static void every_size_and_width_comes_back(void **unused)
{
	(void)unused;
	const int64_t sizes[] = { 1, 3, 4096, MIB - 1, MIB, MIB + 1, 2 * MIB + 70001 };
	const int widths[] = { 1, 2, 3, 4, 8, 16 };
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++)
		for (size_t k = 0; k < sizeof widths / sizeof *widths; k++) {
			files f = files_up(sizes[i], (i + k) % 2);
			pio_stored *s = NULL;
			encode(&f, widths[k]);
			check_ok(pio_stored_open(&s, plain_path(&f), &err));
			assert_true(pio_stored_is_encoded(s));
			assert_int_equal(pio_stored_bytes(s), f.size);
			check_range(&f, s, 0, (size_t)f.size);
			check_range(&f, s, f.size, 0);
			for (int64_t at = 0; at < f.size; at += f.size / 5 + 1)
				check_range(&f, s, at, (size_t)(f.size - at) / 2);
			check_fails(pio_stored_read(s, f.bytes, 1, f.size, &err), PIO_ECORRUPT, "are not there");
			check_fails(pio_stored_read(s, f.bytes, 1, -1, &err), PIO_ECORRUPT, "are not there");
			pio_stored_close(&s);
			files_down(&f);
		}
}

static void a_plain_file_comes_before_an_encoded_one(void **unused)
{
	(void)unused;
	files f = files_up(5000, false);
	pio_stored *s = NULL;
	check_fails(pio_stored_open(&s, plain_path(&f), &err), PIO_ENOTFOUND, SHA);
	assert_null(s);
	encode(&f, 4);
	check_ok(pio_fs_write(plain_path(&f), "as it is", 8, 0666, &err));
	check_ok(pio_stored_open(&s, plain_path(&f), &err));
	assert_false(pio_stored_is_encoded(s));
	assert_int_equal(pio_stored_bytes(s), 8);
	pio_stored_close(&s);
	files_down(&f);
}

static void what_hardly_changed_becomes_small(void **unused)
{
	(void)unused;
	files f = files_up(20 * MIB, true);
	double with = 0, without = 0;
	pio_encoded_head head = head_of(&f, 4);
	check_ok(pio_encoded_sample(&with, &head, give, &f, &err));
	head.anchor[0] = 0;
	check_ok(pio_encoded_sample(&without, &head, give, &f, &err));
	assert_true(with > 1.4 && without > 1.0 && with > 1.2 * without);
	int64_t stored = encode(&f, 4);
	double ratio = (double)f.size / (double)stored;
	assert_true(fabs(ratio - with) < 0.05 * with); /* 6 of 20 MiB were sampled */
	files_down(&f);
}

static void the_stock_zstd_checks_it(void **unused)
{
	(void)unused;
	files f = files_up(3 * MIB, false);
	char command[4200];
	encode(&f, 4);
	if (system("zstd --version > /dev/null 2>&1") != 0) {
		files_down(&f);
		skip();
	}
	snprintf(command, sizeof command, "zstd -t -q '%s'", encoded_path(&f));
	assert_int_equal(system(command), 0);
	files_down(&f);
}

static int64_t ranges[16][2];
static int ranges_count;

static void note(void *context, int64_t from, int64_t to)
{
	(void)context;
	assert_true(ranges_count < 16);
	ranges[ranges_count][0] = from;
	ranges[ranges_count++][1] = to;
}

static void flip(const char *path, int64_t at)
{
	uint8_t byte;
	int fd = -1;
	check_ok(pio_fs_open(&fd, path, O_RDWR, 0, &err));
	assert_int_equal(pread(fd, &byte, 1, (off_t)at), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, (off_t)at), 1);
	check_ok(pio_fs_close(&fd, path, &err));
}

/* Wherever a bit is another, reading says so, or the bytes are the same. */
static void damage_is_noticed_wherever_it_is(void **unused)
{
	(void)unused;
	files f = files_up(2 * MIB + 999, false);
	int64_t stored = encode(&f, 4);
	uint8_t *to = malloc((size_t)f.size);
	for (int64_t at = 0; at < stored; at += at < 200 || at > stored - 60 ? 1 : stored / 50) {
		pio_stored *s = NULL;
		pio_err err = PIO_ERR_INIT;
		flip(encoded_path(&f), at);
		int rc = pio_stored_open(&s, plain_path(&f), &err);
		if (!rc)
			rc = pio_stored_read(s, to, (size_t)f.size, 0, &err);
		if (rc != -PIO_ECORRUPT && (rc || memcmp(to, f.bytes, (size_t)f.size) != 0))
			fail_msg("byte %lld: %d %s", (long long)at, rc, err.message);
		pio_stored_close(&s);
		flip(encoded_path(&f), at);
	}
	free(to);
	files_down(&f);
}

static void a_damaged_frame_is_located(void **unused)
{
	(void)unused;
	files f = files_up(5 * MIB, true);
	pio_reread reread;
	bool damaged = true;
	int64_t stored = encode(&f, 4);
	check_ok(pio_stored_reread(&reread, &damaged, encoded_path(&f), NULL, NULL, NULL, note, NULL, &err));
	assert_false(damaged);
	char sha256[PIO_SHA256_HEX + 1];
	check_ok(pio_sha256_bytes(f.bytes, (size_t)f.size, sha256, &err));
	assert_string_equal(reread.sha256, sha256);
	flip(encoded_path(&f), stored / 2); /* the third of five */
	check_ok(pio_stored_reread(&reread, &damaged, encoded_path(&f), NULL, NULL, NULL, note, NULL, &err));
	assert_true(damaged);
	assert_int_equal(ranges_count, 1);
	assert_int_equal(ranges[0][0], 2 * MIB);
	assert_int_equal(ranges[0][1], 3 * MIB);
	/* The other frames are read as before. */
	pio_stored *s = NULL;
	check_ok(pio_stored_open(&s, plain_path(&f), &err));
	check_range(&f, s, 0, (size_t)(2 * MIB));
	check_range(&f, s, 3 * MIB, (size_t)(2 * MIB));
	check_fails(pio_stored_read(s, f.bytes, 1, 2 * MIB, &err), PIO_ECORRUPT, "MiB 2 of the file");
	pio_stored_close(&s);
	files_down(&f);
}

static void it_is_read_from_the_disk_and_so_is_its_anchor(void **unused)
{
	(void)unused;
	files f = files_up(5 * MIB, true);
	const char *anchor = path_in(f.dir, "objects/fe/" BASE);
	pio_str text = PIO_STR_INIT;
	pio_reread reread;
	pio_fs_place place;
	bool damaged = true;
	int64_t stored = encode(&f, 4);
	check_ok(pio_fs_read(&text, anchor, &err));
	pio_fs_place_get(&place, f.dir);
	bool is_memory = strcmp(place.name, "tmpfs") == 0;
	assert_true(pages_kept(anchor, (size_t)f.size) > f.size / 4096 / 2);
	check_ok(pio_stored_reread(&reread, &damaged, encoded_path(&f), NULL, NULL, NULL, note, NULL, &err));
	assert_false(damaged);
	int64_t kept = pages_kept(anchor, (size_t)f.size), kept_encoded = pages_kept(encoded_path(&f), (size_t)stored);
	pio_str_fini(&text);
	files_down(&f);
	if (is_memory)
		skip(); /* TMPDIR is on tmpfs, where memory is the disk */
	assert_true(kept < f.size / 4096 / 4 && kept_encoded < stored / 4096 / 4);
}

static void an_anchor_has_to_be_there_and_plain(void **unused)
{
	(void)unused;
	files f = files_up(MIB + 7, true);
	pio_stored *s = NULL;
	encode(&f, 4);
	const char *anchor = path_in(f.dir, "objects/fe/" BASE);
	check_ok(pio_fs_rename(anchor, path_in(f.dir, "aside"), &err));
	check_fails(pio_stored_open(&s, plain_path(&f), &err), PIO_ECORRUPT, "needs object fedcba987654");
	/* One that has an anchor itself is none. */
	check_ok(pio_fs_rename(encoded_path(&f), path_in(f.dir, "objects/fe/" BASE PIO_STORED_ENCODED), &err));
	encode(&f, 4);
	check_fails(pio_stored_open(&s, plain_path(&f), &err), PIO_ECORRUPT, "has an anchor, and is one");
	/* An encoded one without is. */
	files g = f;
	g.anchor = NULL;
	g.bytes = f.anchor;
	encode(&g, 2);
	check_ok(pio_fs_rename(encoded_path(&f), path_in(f.dir, "objects/fe/" BASE PIO_STORED_ENCODED), &err));
	encode(&f, 4);
	check_ok(pio_stored_open(&s, plain_path(&f), &err));
	check_range(&f, s, 0, (size_t)f.size);
	pio_stored_close(&s);
	/* One of another size is another's. */
	check_ok(pio_fs_write(path_in(f.dir, "objects/fe/" BASE), "short", 5, 0666, &err));
	check_fails(pio_stored_open(&s, plain_path(&f), &err), PIO_ECORRUPT, "another size");
	files_down(&f);
}

static void memory_may_run_out_anywhere(void **unused)
{
	(void)unused;
	files f = files_up(MIB + 7, true);
	encode(&f, 4);
	int64_t live = pio_mem_live();
	for (uint64_t n = 1;; n++) {
		pio_stored *s = NULL;
		pio_err err = PIO_ERR_INIT;
		pio_mem_fail_at(n);
		int rc = pio_stored_open(&s, plain_path(&f), &err);
		uint64_t left = pio_mem_fail_at(0);
		pio_stored_close(&s);
		assert_int_equal(pio_mem_live(), live);
		if (left)
			break;
		assert_int_equal(rc, -PIO_ENOMEM);
	}
	files_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_size_and_width_comes_back),
		cmocka_unit_test(a_plain_file_comes_before_an_encoded_one),
		cmocka_unit_test(what_hardly_changed_becomes_small),
		cmocka_unit_test(the_stock_zstd_checks_it),
		cmocka_unit_test(damage_is_noticed_wherever_it_is),
		cmocka_unit_test(a_damaged_frame_is_located),
		cmocka_unit_test(it_is_read_from_the_disk_and_so_is_its_anchor),
		cmocka_unit_test(an_anchor_has_to_be_there_and_plain),
		cmocka_unit_test(memory_may_run_out_anywhere),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
