/* Parts of a tensor, one of each rank: which of them make a checkpoint. */
#include "checkpoint_fixture.h"

typedef struct piece {
	const char *shape;
	int elements;
	const char *offset, *whole;   /* offset "=[0,0]": the rank has all of it, in slices */
} piece;

/* A file with a tensor of zeros: `shape` of it, where in which whole; NULL: it is whole. */
static shard stage_part(const fixture *f, int number, const piece *p)
{
	shard s;
	static const float zeros[64];
	char header[512], parts[200] = "", name[32];
	bool own = p->offset && p->offset[0] == '=';
	if (p->offset)
		snprintf(parts, sizeof parts, ",\"parts\":\"{\\\"w\\\":{\\\"offset\\\":%s%s,\\\"shape\\\":%s}}\"",
		         p->offset + own, own ? ",\\\"own\\\":true" : "", p->whole);
	snprintf(header, sizeof header, "{\"__metadata__\":{\"format\":\"pioche\",\"rank\":\"%d\"%s},\"w\":{"
	         "\"dtype\":\"F32\",\"shape\":%s,\"data_offsets\":[0,%d]}}", number, parts, p->shape, 4 * p->elements);
	uint64_t n = strlen(header);
	pio_str bytes = PIO_STR_INIT;
	pio_str_append(&bytes, &n, 8);
	pio_str_append(&bytes, header, n);
	pio_str_append(&bytes, zeros, sizeof *zeros * (size_t)p->elements);
	check_ok(pio_fs_mkdirs(path_in(f->dir, "staging/" ULID_1), 0777, &err));
	snprintf(name, sizeof name, "part-%d", number);
	snprintf(s.path, sizeof s.path, "%s/staging/" ULID_1 "/%s", f->dir, name);
	check_ok(pio_fs_write(s.path, bytes.data, bytes.len, 0666, &err));
	check_ok(pio_sha256_bytes(bytes.data, bytes.len, s.sha256, &err));
	s.bytes = bytes.len;
	pio_str_fini(&bytes);
	return s;
}

/* Each rank saves a piece: published (why NULL), or not, and nothing else is changed. */
static void expect_cover(const char *why, const piece *pieces, int count)
{
	fixture f = store_up_run();
	pio_journal_writer *w = journal_up(&f, 1);
	for (int i = 0; i < count; i++) {
		shard s = stage_part(&f, i, &pieces[i]);
		put_checkpoint(w, (uint32_t)i, 10, (uint32_t)count, &s, 1);
	}
	journal_down(w);
	assert_int_equal(fold(&f, true).checkpoints, why ? 0 : 1);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint"), why ? 0 : 1);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM checkpoint_file"), why ? 0 : count);
	if (why)
		assert_non_null(strstr(sql_text(f.store, "SELECT group_concat(message) FROM event"), why));
	else
		assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	store_down(&f);
}

#define PIECES(...) (const piece[]){ __VA_ARGS__ }, sizeof (const piece[]){ __VA_ARGS__ } / sizeof(piece)
#define WHOLE "[4,4]"

static void parts_that_are_no_whole_are_not_published(void **unused)
{
	(void)unused;
	expect_cover(NULL, PIECES({ "[2,4]", 8, "[2,0]", WHOLE }, { "[2,4]", 8, "[0,0]", WHOLE }));
	expect_cover(NULL, PIECES({ "[2,2]", 4, "[0,0]", WHOLE }, { "[2,2]", 4, "[0,2]", WHOLE },
	                          { "[2,2]", 4, "[2,0]", WHOLE }, { "[2,2]", 4, "[2,2]", WHOLE }));
	/* no grid, all the same */
	expect_cover(NULL, PIECES({ "[4,1]", 4, "[0,0]", WHOLE }, { "[1,3]", 3, "[0,1]", WHOLE },
	                          { "[3,3]", 9, "[1,1]", WHOLE }));
	expect_cover(NULL, PIECES({ "[10]", 10, "0", WHOLE }, { "[0]", 0, "10", WHOLE }, { "[6]", 6, "10", WHOLE }));
	expect_cover(NULL, PIECES({ "[4,4]", 16, NULL, NULL }, { "[4,4]", 16, NULL, NULL }));
	expect_cover(NULL, PIECES({ "[0,4]", 0, "[0,0]", "[0,4]" }, { "[0,4]", 0, "[0,0]", "[0,4]" }));
	/* each has its own whole one, in slices or not */
	expect_cover(NULL, PIECES({ "[4,4]", 16, "=[0,0]", WHOLE }, { "[4,4]", 16, "=[0,0]", WHOLE },
	                          { "[2]", 2, NULL, NULL }, { "[6]", 6, "=[0]", "[6]" }));
	expect_cover("nobody saved 8 of its elements",
	             PIECES({ "[2,4]", 8, "=[0,0]", WHOLE }, { "[2,4]", 8, "=[2,0]", WHOLE }));
	expect_cover("rank 0 saved it whole, rank 1 a part of one",
	             PIECES({ "[4,4]", 16, "=[0,0]", WHOLE }, { "[2,4]", 8, "[2,0]", WHOLE }));
	expect_cover("rank 1 saved it whole, rank 0 a part of one",
	             PIECES({ "[4,4]", 16, "[0,0]", WHOLE }, { "[4,4]", 16, "=[0,0]", WHOLE }));
	expect_cover("tensor \"w\" of role \"model\": the parts of rank 0 and rank 1 overlap",
	             PIECES({ "[3,4]", 12, "[0,0]", WHOLE }, { "[2,4]", 8, "[2,0]", WHOLE }));
	/* an overlap that makes up for a hole */
	expect_cover("the parts of rank 0 and rank 1 overlap",
	             PIECES({ "[2,4]", 8, "[0,0]", WHOLE }, { "[2,4]", 8, "[1,0]", WHOLE }));
	expect_cover("the parts of rank 1 and rank 2 overlap",
	             PIECES({ "[4,1]", 4, "[0,0]", WHOLE }, { "[4,2]", 8, "[0,1]", WHOLE },
	                    { "[1,2]", 2, "[3,2]", WHOLE }));
	expect_cover("nobody saved what lies between the parts of rank 0 and rank 1, 4 elements in all",
	             PIECES({ "[2,4]", 8, "[0,0]", WHOLE }, { "[1,4]", 4, "[3,0]", WHOLE }));
	expect_cover("nobody saved what lies before the part of rank 0, 8 elements in all",
	             PIECES({ "[2,4]", 8, "[2,0]", WHOLE }, { "[0,4]", 0, "[0,0]", WHOLE }));
	expect_cover("nobody saved 6 of its elements, those at its end among them",
	             PIECES({ "[4]", 4, "0", WHOLE }, { "[6]", 6, "4", WHOLE }));
	expect_cover("nobody saved 2 of its elements",
	             PIECES({ "[4,3]", 12, "[0,0]", WHOLE }, { "[2,1]", 2, "[0,3]", WHOLE }));
	expect_cover("nobody saved 16 of its elements", PIECES({ "[0,4]", 0, "[0,0]", WHOLE }));
	expect_cover("rank 0 saved it whole, rank 1 a part of one",
	             PIECES({ "[4,4]", 16, NULL, NULL }, { "[2,4]", 8, "[0,0]", WHOLE }));
	expect_cover("rank 1 saved a run of its elements, rank 0 a box",
	             PIECES({ "[2,4]", 8, "[0,0]", WHOLE }, { "[8]", 8, "8", WHOLE }));
	expect_cover("to rank 0 it is F32 of shape [4,4], to rank 1 F32 of shape [8,4]",
	             PIECES({ "[2,4]", 8, "[0,0]", WHOLE }, { "[2,4]", 8, "[2,0]", "[8,4]" }));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(parts_that_are_no_whole_are_not_published) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
