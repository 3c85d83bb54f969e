#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/str.h"
#include "store/tensor_copy.h"
#include "sys/fs.h"

static pio_err err = PIO_ERR_INIT;
static char dir[200], from[256], to[256];

enum { HEAD = 5, AT = 16, X = 7, Y = 300, Z = 500 }; /* more than a block of 16-bit elements */

static void add_bytes(void *context, int64_t bytes)
{
	*(int64_t *)context += bytes;
}

static uint16_t value_at(int64_t x, int64_t y, int64_t z)
{
	return (uint16_t)((x * Y + y) * Z + z);
}

/* The box as a rank saved it: its elements in order, behind some other bytes. */
static void put_box(pio_tensor_part *part, const int64_t begin[3], const int64_t shape[3])
{
	pio_str bytes = PIO_STR_INIT;
	pio_str_append(&bytes, "other", HEAD);
	for (int64_t x = 0; x < shape[0]; x++)
		for (int64_t y = 0; y < shape[1]; y++)
			for (int64_t z = 0; z < shape[2]; z++) {
				uint16_t v = value_at(begin[0] + x, begin[1] + y, begin[2] + z);
				pio_str_append(&bytes, &v, sizeof v);
			}
	assert_int_equal(pio_fs_write(from, bytes.data, bytes.len, 0666, &err), 0);
	*part = (pio_tensor_part){ .path = from, .offset = HEAD, .size_bytes = (int64_t)bytes.len - HEAD,
	                           .element_bytes = 2, .ndim = 3, .whole = { X, Y, Z } };
	memcpy(part->begin, begin, 3 * sizeof *begin);
	memcpy(part->shape, shape, 3 * sizeof *shape);
	pio_str_fini(&bytes);
}

static void copy(const pio_tensor_part *part)
{
	int fd;
	int64_t heard = 0;
	assert_int_equal(pio_fs_open(&fd, to, O_WRONLY | O_CREAT, 0666, &err), 0);
	if (pio_tensor_copy(fd, to, AT, part, add_bytes, &heard, &err))
		fail_msg("%s", err.message);
	assert_int_equal(heard, part->size_bytes);
	assert_int_equal(pio_fs_close(&fd, to, &err), 0);
}

static void check_whole(void)
{
	pio_str text = PIO_STR_INIT;
	assert_int_equal(pio_fs_read(&text, to, &err), 0);
	assert_int_equal(text.len, AT + 2 * X * Y * Z);
	for (int64_t i = 0; i < X * Y * Z; i++) {
		uint16_t v;
		memcpy(&v, text.data + AT + 2 * i, sizeof v);
		if (v != (uint16_t)i)
			fail_msg("element %lld is %u", (long long)i, v);
	}
	pio_str_fini(&text);
	assert_int_equal(pio_fs_unlink(to, &err), 0);
}

/* Cut along each dimension, unevenly, and along two at once. */
static void boxes_become_the_tensor(void **unused)
{
	(void)unused;
	static const int64_t cuts[][3] = { { 3, Y, Z }, { X, 111, Z }, { X, Y, 123 }, { 2, 299, 7 }, { X, Y, Z } };
	for (size_t c = 0; c < sizeof cuts / sizeof *cuts; c++) {
		for (int corner = 7; corner >= 0; corner--) { /* the last first: order does not matter */
			int64_t begin[3], shape[3], whole[3] = { X, Y, Z };
			for (int d = 0; d < 3; d++) {
				begin[d] = corner >> d & 1 ? cuts[c][d] : 0;
				shape[d] = (corner >> d & 1 ? whole[d] : cuts[c][d]) - begin[d];
			}
			pio_tensor_part part;
			put_box(&part, begin, shape);
			copy(&part);
		}
		check_whole();
	}
}

static void runs_of_elements_become_the_tensor(void **unused)
{
	(void)unused;
	static const int64_t ends[] = { 0, 1, 700000, X * Y * Z };
	for (int i = 2; i >= 0; i--) {
		pio_str bytes = PIO_STR_INIT;
		for (int64_t k = ends[i]; k < ends[i + 1]; k++) {
			uint16_t v = (uint16_t)k;
			pio_str_append(&bytes, &v, sizeof v);
		}
		assert_int_equal(pio_fs_write(from, bytes.data, bytes.len, 0666, &err), 0);
		pio_tensor_part part = { .path = from, .size_bytes = (int64_t)bytes.len, .element_bytes = 2,
		                         .begin = { ends[i] } };
		pio_str_fini(&bytes);
		copy(&part);
	}
	check_whole();
}

static void a_part_that_does_not_fit_is_refused(void **unused)
{
	(void)unused;
	static const int64_t begin[3] = { 0, 0, 1 }, shape[3] = { 1, 2, 3 };
	pio_tensor_part good, part;
	put_box(&good, begin, shape);
	int fd;
	assert_int_equal(pio_fs_open(&fd, to, O_WRONLY | O_CREAT, 0666, &err), 0);
	part = good;
	part.begin[2] = Z - 2;
	assert_int_equal(pio_tensor_copy(fd, to, 0, &part, NULL, NULL, &err), -PIO_EINVAL);
	assert_non_null(strstr(err.message, "begins at 498 of dimension 2 and has 3 there"));
	part = good;
	part.shape[0] = -1;
	assert_int_equal(pio_tensor_copy(fd, to, 0, &part, NULL, NULL, &err), -PIO_EINVAL);
	part = good;
	part.size_bytes--;
	assert_int_equal(pio_tensor_copy(fd, to, 0, &part, NULL, NULL, &err), -PIO_EINVAL);
	assert_non_null(strstr(err.message, "11 bytes, its shape asks for 12"));
	part = good;
	part.offset++; /* the file ends too early */
	assert_true(pio_tensor_copy(fd, to, 0, &part, NULL, NULL, &err) != 0);
	part = good;
	part.shape[1] = part.size_bytes = 0; /* nothing, which is fine */
	assert_int_equal(pio_tensor_copy(fd, to, 0, &part, NULL, NULL, &err), 0);
	assert_int_equal(pio_fs_close(&fd, to, &err), 0);
}

static int up(void **unused)
{
	(void)unused;
	const char *tmp = getenv("TMPDIR");
	snprintf(dir, sizeof dir, "%s/test-tensor-copy-%d", tmp ? tmp : "/tmp", (int)getpid());
	snprintf(from, sizeof from, "%s/from", dir);
	snprintf(to, sizeof to, "%s/to", dir);
	return pio_fs_mkdirs(dir, 0777, &err);
}

static int down(void **unused)
{
	(void)unused;
	return pio_fs_remove_tree(dir, &err);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(boxes_become_the_tensor),
		cmocka_unit_test(runs_of_elements_become_the_tensor),
		cmocka_unit_test(a_part_that_does_not_fit_is_refused),
	};
	return cmocka_run_group_tests(tests, up, down);
}
