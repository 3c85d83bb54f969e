#include "checkpoint_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "client/resume.h"
#include "room.h"
#include "store/checkpoint_import.h"
#include "store/object_code.h"
#include "store/object_look.h"
#include "store/retain.h"
#include "sys/encoded.h"
#include "sys/stored.h"

#define COUNT 400000           /* floats: a frame and a half */

/* Two checkpoints of a run and one of its steps later, alike in most bits. */
typedef struct snapshots {
	fixture f;
	int64_t ids[3];
	char sha256[3][PIO_SHA256_HEX + 1];
} snapshots;

static float *weights_at(int step)
{
	float *w = malloc(COUNT * sizeof *w);
	uint64_t random = 88172645463325252u;
	for (int i = 0; i < COUNT; i++) {
		random ^= random << 13, random ^= random >> 7, random ^= random << 17;
		w[i] = ((float)(random % 20000) / 10000 - 1) * (1 + 1e-5f * (float)step * (float)(random >> 61));
	}
	return w;
}

static void write_weights(const char *path, int step)
{
	static const char header[] = "{\"w\":{\"dtype\":\"F32\",\"shape\":[400000],\"data_offsets\":[0,1600000]}}    ";
	uint64_t n = sizeof header - 1;
	float *w = weights_at(step);
	pio_str bytes = PIO_STR_INIT;
	pio_str_append(&bytes, &n, 8);
	pio_str_append(&bytes, header, n);
	pio_str_append(&bytes, w, COUNT * sizeof *w);
	check_ok(pio_fs_write(path, bytes.data, bytes.len, 0666, &err));
	pio_str_fini(&bytes);
	free(w);
}

static void copy_digest(char *to, pio_store *store, int64_t checkpoint)
{
	char sql[200];
	snprintf(sql, sizeof sql, "SELECT sha256 FROM checkpoint_file WHERE checkpoint_id = %" PRId64, checkpoint);
	snprintf(to, PIO_SHA256_HEX + 1, "%s", sql_text(store, sql));
}

static snapshots snapshots_up(void)
{
	snapshots s = { .f = store_up_run() };
	assert_int_equal(sqlite3_exec(pio_store_db(s.f.store), "UPDATE attempt SET state = 'ended', result = 'ok';"
	                              " UPDATE run SET status = 'finished'", NULL, NULL, NULL), SQLITE_OK);
	for (int i = 0; i < 3; i++) {
		const pio_checkpoint_import_file file = { .path = path_in(s.f.dir, "from.safetensors") };
		char staging[400];
		snprintf(staging, sizeof staging, "%s/staging/import", s.f.dir);
		write_weights(file.path, i);
		pio_checkpoint_import import = { .run_id = s.f.run, .step = 10 * (i + 1), .role = "model",
			                         .staging = staging, .files = &file, .count = 1 };
		check_ok(pio_store_checkpoint_import(&s.ids[i], s.f.store, &import, NULL, NULL, &err));
		copy_digest(s.sha256[i], s.f.store, s.ids[i]);
	}
	return s;
}

static void snapshots_down(snapshots *s)
{
	store_down(&s->f);
}

static const char *path_of(const snapshots *s, int i)
{
	char name[100];
	snprintf(name, sizeof name, "objects/%.2s/%s", s->sha256[i], s->sha256[i]);
	return path_in(s->f.dir, name);
}

static const char *encoded_of(const snapshots *s, int i)
{
	char name[100];
	snprintf(name, sizeof name, "objects/%.2s/%s" PIO_STORED_ENCODED, s->sha256[i], s->sha256[i]);
	return path_in(s->f.dir, name);
}

static pio_encode_result encode(const snapshots *s, int i, int anchor, double least)
{
	pio_encode_result r;
	pio_encode_options o = { .anchor = anchor < 0 ? NULL : s->sha256[anchor], .least = least };
	check_ok(pio_store_object_encode(&r, s->f.store, s->sha256[i], &o, &err));
	return r;
}

static void check_bytes(const snapshots *s, int i)
{
	pio_stored *file = NULL;
	float *w = weights_at(i), *is = malloc(COUNT * sizeof *is);
	check_ok(pio_stored_open(&file, path_of(s, i), &err));
	check_ok(pio_stored_read(file, is, COUNT * sizeof *is, pio_stored_bytes(file) - COUNT * (int64_t)sizeof *is,
	                         &err));
	assert_memory_equal(is, w, COUNT * sizeof *w);
	pio_stored_close(&file);
	free(w);
	free(is);
}

static void check_all(const snapshots *s)
{
	pio_verify_result r;
	for (int i = 0; i < 3; i++)
		check_bytes(s, i);
	check_ok(pio_store_verify(&r, s->f.store, NULL, NULL, NULL, &err));
	assert_int_equal(r.objects, 3);
	assert_int_equal(r.bad + r.missing, 0);
}

static bool is_there(const char *path)
{
	return pio_fs_type(path) == PIO_FS_FILE;
}

static void an_object_is_encoded_and_the_same(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	struct stat st;
	pio_encode_result r = encode(&s, 2, 0, 1.2);
	assert_string_equal(r.codec, "xor");
	assert_true(r.sampled > 1.2 && (double)r.bytes > 1.2 * (double)r.stored_bytes);
	assert_false(is_there(path_of(&s, 2)));
	assert_int_equal(stat(encoded_of(&s, 2), &st), 0);
	assert_int_equal(st.st_size, r.stored_bytes);
	assert_int_equal(st.st_mode & 0777, 0444);
	assert_int_equal(sql_int(s.f.store, "SELECT stored_bytes FROM object WHERE codec = 'xor'"), r.stored_bytes);
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE verified = 'reread'"), 1);
	check_all(&s);
	/* Once. */
	r = encode(&s, 2, 0, 1.2);
	assert_null(r.codec);
	assert_string_equal(r.why, "it is encoded already");
	/* Saved again, it stays so. */
	char staged[512];
	snprintf(staged, sizeof staged, "%s/staging/again", s.f.dir);
	write_weights(staged, 2);
	check_ok(pio_store_object_put(s.f.store, staged, s.sha256[2], r.bytes, &err));
	assert_false(is_there(staged) || is_there(path_of(&s, 2)));
	check_ok(pio_store_object_decode(s.f.store, s.sha256[2], &err));
	assert_true(is_there(path_of(&s, 2)) && !is_there(encoded_of(&s, 2)));
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE codec IS NULL AND anchor IS NULL AND"
	                         " stored_bytes IS NULL"), 3);
	check_ok(pio_store_object_decode(s.f.store, s.sha256[2], &err));
	check_all(&s);
	snapshots_down(&s);
}

static void what_does_not_pay_stays_and_is_remembered(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	pio_encode_result r = encode(&s, 2, 0, 100);
	assert_null(r.codec);
	assert_string_equal(r.why, "it would not be much smaller");
	assert_true(is_there(path_of(&s, 2)) && !is_there(encoded_of(&s, 2)));
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE sampled > 1 AND codec IS NULL"), 1);
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, path_in(s.f.dir, "staging"), &err));
	assert_int_equal(count, 0);
	pio_fs_list_free(names, count);
	snapshots_down(&s);
}

static void an_anchor_has_none_and_stays(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	assert_string_equal(encode(&s, 1, 0, 1).codec, "xor");
	/* Neither is one that has an anchor taken for one, nor gets an anchor one. */
	assert_string_equal(encode(&s, 2, 1, 1).codec, "shuffle");
	pio_encode_result r = encode(&s, 0, 2, 1);
	assert_string_equal(r.codec, "shuffle");
	check_all(&s);
	check_fails(pio_store_checkpoint_drop(s.f.store, s.ids[0], &err), PIO_EBUSY, "the anchor of others");
	pio_keep keep = { .last = 1 };
	pio_retained *list;
	size_t count;
	check_ok(pio_store_checkpoint_judge(&list, &count, s.f.store, s.f.run, &keep, &err));
	assert_int_equal(count, 3);
	assert_string_equal(list[0].why, "last");
	assert_null(list[1].why);
	assert_string_equal(list[2].why, "anchor");
	pio_free(list);
	/* What hangs on it goes first, then it may; both files of each. */
	int64_t unread = 0;
	check_ok(pio_store_checkpoint_retain(&unread, s.f.store, s.f.run, &keep, &err));
	assert_int_equal(unread, 0);
	assert_false(is_there(path_of(&s, 1)) || is_there(encoded_of(&s, 1)));
	check_ok(pio_store_checkpoint_retain(&unread, s.f.store, s.f.run, &keep, &err));
	assert_false(is_there(path_of(&s, 0)) || is_there(encoded_of(&s, 0)));
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object"), 1);
	check_bytes(&s, 2);
	snapshots_down(&s);
}

/* Two checkpoints have the anchor, and both may go: the second one stays for what hangs on it. */
static void the_last_one_with_an_anchor_stays(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	const pio_checkpoint_import_file file = { .path = path_in(s.f.dir, "from.safetensors") };
	char staging[400];
	int64_t again, unread = 0;
	snprintf(staging, sizeof staging, "%s/staging/import", s.f.dir);
	write_weights(file.path, 0);
	pio_checkpoint_import import = { .run_id = s.f.run, .step = 15, .role = "model", .staging = staging,
		                         .files = &file, .count = 1 };
	check_ok(pio_store_checkpoint_import(&again, s.f.store, &import, NULL, NULL, &err));
	encode(&s, 2, 0, 1);
	pio_keep keep = { .last = 1 };
	check_ok(pio_store_checkpoint_retain(&unread, s.f.store, s.f.run, &keep, &err));
	assert_int_equal(unread, 0);
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM checkpoint"), 2);
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM checkpoint WHERE step IN (10, 30)"), 2);
	check_bytes(&s, 2);
	/* Nor does it go where a checkpoint of another run has taken the place of all. */
	check_ok(pio_store_checkpoint_pin(s.f.store, s.ids[2], NULL, &err));
	keep.successor = s.ids[2];
	pio_retained *list;
	size_t count;
	check_ok(pio_store_checkpoint_judge(&list, &count, s.f.store, s.f.run, &keep, &err));
	assert_int_equal(count, 2);
	assert_string_equal(list[0].why, "pinned");
	assert_string_equal(list[1].why, "anchor");
	pio_free(list);
	snapshots_down(&s);
}

static void what_is_gone_on_from_is_decoded_first(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	encode(&s, 2, 0, 1);
	const char *index = path_in(s.f.dir, "resume.txt");
	block_bytes = 1, free_blocks = 1000000; /* fewer bytes than the weights have */
	check_fails(pio_store_checkpoint_index(s.f.store, s.ids[2], index, &err), PIO_ENOSPC, "where 1000000 are free");
	assert_true(is_there(encoded_of(&s, 2)) && !is_there(path_of(&s, 2)) && !is_there(index));
	block_bytes = 0;
	check_ok(pio_store_checkpoint_index(s.f.store, s.ids[2], index, &err));
	assert_true(is_there(path_of(&s, 2)));
	pio_resume *resume = NULL;
	float *is = malloc(COUNT * sizeof *is), *w = weights_at(2);
	const int64_t shape = COUNT;
	check_ok(pio_resume_open(&resume, index, &err));
	check_ok(pio_resume_tensor(resume, 0, "model", "w", PIO_F32, 1, &shape, NULL, is, &err));
	assert_memory_equal(is, w, COUNT * sizeof *w);
	pio_resume_close(&resume);
	/* While a run is to start from it, it stays as it is. */
	assert_int_equal(sqlite3_exec(pio_store_db(s.f.store), "UPDATE run SET status = 'queued', from_checkpoint ="
	                              " (SELECT manifest_sha256 FROM checkpoint WHERE step = 30)", NULL, NULL, NULL),
	                 SQLITE_OK);
	assert_string_equal(encode(&s, 2, 0, 1).why, "a run goes on from it");
	free(is);
	free(w);
	snapshots_down(&s);
}

static char finding[300];
static pio_damage_range range;

static void note(void *context, const pio_verify_finding *found, int64_t done, int64_t total)
{
	(void)context;
	assert_true(done <= total);
	if (!found)
		return;
	snprintf(finding + strlen(finding), sizeof finding - strlen(finding), "%.4s %s\n", found->object, found->what);
	if (found->ranges_count)
		range = found->ranges[0];
}

static void flip(const char *path, off_t at)
{
	uint8_t byte;
	int fd = -1;
	assert_int_equal(chmod(path, 0644), 0);
	check_ok(pio_fs_open(&fd, path, O_RDWR, 0, &err));
	assert_int_equal(pread(fd, &byte, 1, at), 1);
	byte ^= 1;
	assert_int_equal(pwrite(fd, &byte, 1, at), 1);
	check_ok(pio_fs_close(&fd, path, &err));
}

/* The system's own, but for the errors that a test wants. */
static int read_errno;

ssize_t pread(int fd, void *bytes, size_t size_bytes, off_t at)
{
	if (read_errno && at == PIO_ENCODED_FRAME_BYTES) { /* of the anchor */
		errno = read_errno;
		return -1;
	}
	return syscall(SYS_pread64, fd, bytes, size_bytes, at);
}

static void check_finding(const snapshots *s, int i, const char *what)
{
	char expected[100];
	pio_verify_result r;
	finding[0] = 0;
	range = (pio_damage_range){ -1, -1 };
	check_ok(pio_store_verify(&r, s->f.store, NULL, note, NULL, &err));
	snprintf(expected, sizeof expected, "%.4s %s\n", s->sha256[i], what);
	if (!strstr(finding, expected))
		fail_msg("\"%s\" lacks \"%s\"", finding, expected);
}

static void verify_tells_what_is_wrong_and_where(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	bool sound;
	pio_encode_result r = encode(&s, 2, 0, 1);
	flip(encoded_of(&s, 2), r.stored_bytes - 2000);
	check_finding(&s, 2, "has damaged frames");
	assert_int_equal(range.begin, 1 << 20);
	assert_int_equal(range.end, r.bytes);
	check_ok(pio_store_checkpoint_sound(&sound, NULL, s.f.store, s.ids[2], &err));
	assert_false(sound);
	/* The same bytes, saved again, take its place. */
	char staged[512];
	snprintf(staged, sizeof staged, "%s/staging/again", s.f.dir);
	write_weights(staged, 2);
	check_ok(pio_store_object_put(s.f.store, staged, s.sha256[2], r.bytes, &err));
	assert_true(is_there(path_of(&s, 2)));
	check_bytes(&s, 2);
	pio_verify_result v;
	check_ok(pio_store_verify(&v, s.f.store, NULL, NULL, NULL, &err));
	assert_int_equal(v.bad + v.missing, 0);
	assert_int_equal(v.orphans, 1); /* the damaged one */
	int64_t bytes;
	char name[100];
	snprintf(name, sizeof name, "%s" PIO_STORED_ENCODED, s.sha256[2]);
	check_ok(pio_store_orphan_remove(&bytes, s.f.store, name, &err));
	assert_int_equal(bytes, r.stored_bytes);
	assert_false(is_there(encoded_of(&s, 2)));

	encode(&s, 2, 0, 1);
	check_ok(pio_store_orphan_remove(&bytes, s.f.store, name, &err));
	assert_int_equal(bytes, -1); /* it is none now */
	flip(path_of(&s, 0), 1000000);
	check_finding(&s, 2, "decodes to other bytes than its name says");
	flip(path_of(&s, 0), 1000000);
	check_ok(pio_store_verify(&v, s.f.store, NULL, NULL, NULL, &err));
	assert_int_equal(v.bad + v.missing, 0);
	snapshots_down(&s);
}

static void without_its_anchor_it_is_not_resumed_from(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	bool sound;
	encode(&s, 2, 0, 1);
	check_ok(pio_fs_rename(path_of(&s, 0), path_in(s.f.dir, "aside"), &err));
	check_ok(pio_store_checkpoint_sound(&sound, NULL, s.f.store, s.ids[2], &err));
	assert_false(sound);
	check_finding(&s, 2, "has no anchor any more");
	check_ok(pio_fs_rename(path_in(s.f.dir, "aside"), path_of(&s, 0), &err));
	check_ok(pio_store_checkpoint_sound(&sound, NULL, s.f.store, s.ids[2], &err));
	assert_true(sound);
	check_ok(pio_fs_rename(encoded_of(&s, 2), path_in(s.f.dir, "aside"), &err));
	check_finding(&s, 2, "is missing");
	check_ok(pio_fs_rename(path_in(s.f.dir, "aside"), encoded_of(&s, 2), &err));
	snapshots_down(&s);
}

/* A disk says that a sector is bad; a server that is away says nothing of the bytes. */
static void what_cannot_be_read_just_now_is_not_damaged(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	static const int damage[] = { EIO, EUCLEAN }, others[] = { ESTALE, ETIMEDOUT, EACCES, EMFILE };
	pio_verify_result v;
	encode(&s, 2, 0, 1);
	for (size_t i = 0; i < 4; i++) {
		pio_object_look look;
		pio_err why = PIO_ERR_INIT;
		read_errno = others[i];
		int rc = pio_object_look_at(&look, s.f.store, s.sha256[2], sql_int(s.f.store, "SELECT max(bytes) FROM"
		                            " object"), PIO_VERIFY_REREAD, NULL, NULL, &why);
		read_errno = 0;
		assert_int_equal(rc, -PIO_EIO);
		assert_int_equal(why.sys_errno, others[i]);
		assert_null(look.what);
		pio_object_look_fini(&look);
	}
	for (size_t i = 0; i < 2; i++) {
		read_errno = damage[i];
		check_finding(&s, 2, "has damaged frames");
		read_errno = 0;
		check_ok(pio_store_verify(&v, s.f.store, NULL, NULL, NULL, &err));
		assert_int_equal(v.bad + v.missing, 0);
	}
	snapshots_down(&s);
}

/* Only the anchor was read again: what hangs on it has no verdict of its own. */
static void what_has_a_bad_anchor_is_bad(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	pio_verify_result v;
	pio_str why = PIO_STR_INIT;
	bool sound;
	int64_t id;
	char staged[512];
	pio_encode_result r = encode(&s, 2, 0, 1);
	flip(path_of(&s, 0), 1000000);
	check_ok(pio_store_verify(&v, s.f.store, &(pio_verify_options){ .how = PIO_VERIFY_REREAD,
	                          .checkpoint_id = s.ids[0] }, NULL, NULL, &err));
	assert_int_equal(v.bad, 1);
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE verified = 'reread' AND codec IS NOT"
	                         " NULL"), 1);
	check_ok(pio_store_checkpoint_sound(&sound, &why, s.f.store, s.ids[2], &err));
	assert_false(sound);
	assert_non_null(strstr(why.data, "has a damaged anchor"));
	pio_str_fini(&why);
	check_ok(pio_store_checkpoint_newest(&id, s.f.store, s.f.run, &err));
	assert_int_equal(id, s.ids[1]);
	pio_retained *list;
	size_t count;
	check_ok(pio_store_checkpoint_judge(&list, &count, s.f.store, s.f.run, &(pio_keep){ .last = 1 }, &err));
	assert_string_equal(list[0].why, "damaged");
	assert_string_equal(list[1].why, "last");
	pio_free(list);
	/* A fresh copy takes its place, and that of one whose anchor is not there. */
	for (int gone = 0; gone < 2; gone++) {
		snprintf(staged, sizeof staged, "%s/staging/again", s.f.dir);
		write_weights(staged, 2);
		check_ok(pio_store_object_put(s.f.store, staged, s.sha256[2], r.bytes, &err));
		assert_true(is_there(path_of(&s, 2)));
		assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE codec IS NOT NULL"), 0);
		if (gone)
			break;
		flip(path_of(&s, 0), 1000000);
		check_ok(pio_store_verify(&v, s.f.store, NULL, NULL, NULL, &err));
		assert_int_equal(v.bad + v.missing, 0);
		encode(&s, 2, 0, 1);
		assert_false(is_there(path_of(&s, 2)));
		check_ok(pio_fs_unlink(path_of(&s, 0), &err));
	}
	snapshots_down(&s);
}

/* Somebody died between the rename over a bad one and the commit; or the file there is bad too. */
static void what_replaced_a_bad_one_is_adopted(void **unused)
{
	(void)unused;
	snapshots s = snapshots_up();
	pio_encode_result r = encode(&s, 2, 0, 1);
	char staged[512];
	flip(encoded_of(&s, 2), r.stored_bytes - 2000);
	check_finding(&s, 2, "has damaged frames");
	snprintf(staged, sizeof staged, "%s/staging/gone", s.f.dir);
	write_weights(path_of(&s, 2), 1); /* of the same size */
	check_ok(pio_store_object_put(s.f.store, staged, s.sha256[2], r.bytes, &err));
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE codec IS NOT NULL AND verified ="
	                         " 'has damaged frames'"), 1);
	write_weights(path_of(&s, 2), 2);
	check_ok(pio_store_object_put(s.f.store, staged, s.sha256[2], r.bytes, &err));
	assert_int_equal(sql_int(s.f.store, "SELECT count(*) FROM object WHERE codec IS NULL AND anchor IS NULL AND"
	                         " stored_bytes IS NULL AND verified IN ('write', 'reread')"), 3);
	int64_t bytes;
	check_ok(pio_store_orphan_remove(&bytes, s.f.store, s.sha256[2], &err));
	assert_int_equal(bytes, -1);
	check_bytes(&s, 2);
	snapshots_down(&s);
}

/* After whatever failed or died: what the row means is there, whole; the next one works. */
static void check_after(snapshots *s, uint64_t n, const char *kind)
{
	pio_err why = PIO_ERR_INIT;
	pio_encode_result r;
	pio_verify_result v;
	store_reopen(&s->f);
	check_ok(pio_store_checkpoint_recover(s->f.store, &err));
	check_ok(pio_store_verify(&v, s->f.store, NULL, NULL, NULL, &err));
	if (v.bad + v.missing)
		fail_msg("%s %llu: %lld bad, %lld missing", kind, (unsigned long long)n, (long long)v.bad,
		         (long long)v.missing);
	for (int i = 0; i < 3; i++)
		check_bytes(s, i);
	char **names;
	size_t count;
	check_ok(pio_fs_list(&names, &count, path_in(s->f.dir, "staging"), &err));
	assert_int_equal(count, 0);
	pio_fs_list_free(names, count);
	pio_encode_options o = { .anchor = s->sha256[0], .least = 1 };
	if (pio_store_object_encode(&r, s->f.store, s->sha256[2], &o, &why))
		fail_msg("%s %llu: then %s", kind, (unsigned long long)n, why.message);
	assert_true(is_there(encoded_of(s, 2)) && !is_there(path_of(s, 2)));
	check_ok(pio_store_object_decode(s->f.store, s->sha256[2], &err));
	assert_true(is_there(path_of(s, 2)) && !is_there(encoded_of(s, 2)));
}

static int there_and_back(const snapshots *s, pio_err *err)
{
	pio_encode_result r;
	pio_encode_options o = { .anchor = s->sha256[0], .least = 1 };
	int rc = pio_store_object_encode(&r, s->f.store, s->sha256[2], &o, err);
	return rc ? rc : pio_store_object_decode(s->f.store, s->sha256[2], err);
}

static void a_failing_disk_leaves_the_old_one(void **unused)
{
	(void)unused;
	static const char *const kinds[] = { "w", "s", "r", "u" };
	static const int errors[] = { ENOSPC, EIO, EDQUOT };
	snapshots s = snapshots_up();
	for (size_t k = 0; k < 4; k++)
		for (uint64_t n = 1;; n++) {
			pio_err why = PIO_ERR_INIT;
			pio_fs_fault_at(kinds[k], n, errors[n % 3]);
			int rc = there_and_back(&s, &why);
			pio_fs_fault_at("", 0, 0);
			if (!rc)
				break;
			assert_true(why.message[0]);
			check_after(&s, n, kinds[k]);
		}
	snapshots_down(&s);
}

/* A process that dies at the n-th operation on files. */
static void death_leaves_the_old_one_or_the_new_one(void **unused)
{
	(void)unused;
	static const char *const kinds[] = { "s", "r", "u" };
	snapshots s = snapshots_up();
	for (size_t k = 0; k < 3; k++)
		for (uint64_t n = 1;; n++) {
			int status;
			pio_store_close(&s.f.store);
			pid_t pid = fork();
			assert_true(pid >= 0);
			if (!pid) {
				if (pio_store_open(&s.f.store, s.f.dir, PIO_STORE_WRITE, NULL))
					_exit(9);
				pio_fs_fault_at(kinds[k], n, 0);
				_exit(there_and_back(&s, NULL) ? 8 : 0);
			}
			assert_int_equal(waitpid(pid, &status, 0), pid);
			check_ok(pio_store_open(&s.f.store, s.f.dir, PIO_STORE_WRITE, &err));
			if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
				break;
			check_after(&s, n, kinds[k]);
		}
	snapshots_down(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_object_is_encoded_and_the_same),
		cmocka_unit_test(what_does_not_pay_stays_and_is_remembered),
		cmocka_unit_test(an_anchor_has_none_and_stays),
		cmocka_unit_test(the_last_one_with_an_anchor_stays),
		cmocka_unit_test(what_is_gone_on_from_is_decoded_first),
		cmocka_unit_test(verify_tells_what_is_wrong_and_where),
		cmocka_unit_test(without_its_anchor_it_is_not_resumed_from),
		cmocka_unit_test(what_has_a_bad_anchor_is_bad),
		cmocka_unit_test(what_replaced_a_bad_one_is_adopted),
		cmocka_unit_test(what_cannot_be_read_just_now_is_not_damaged),
		cmocka_unit_test(a_failing_disk_leaves_the_old_one),
		cmocka_unit_test(death_leaves_the_old_one_or_the_new_one),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
