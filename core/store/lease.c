/* Definitions
 *
 *   token     goes up by one or more with each holder; the database keeps the
 *             newest (table lease)
 *   claim     the file lease.<token>, on a network file system
 *   record    one line of JSON in a claim (locally in the file `lease`): who
 *             holds it, how another process of the same kernel finds out whether
 *             it lives, how long it may be silent, and a count of its beats
 *   beat      the holder adds one to that count, ten times in silent_ms
 *   fence     the transaction that raises the token in the database
 *
 * Invariants
 *
 *   1. Who acts as the holder compares its token with the database's inside each
 *      of its transactions (pio_store_begin), after the write lock is had. Of two
 *      that believe to be the holder only the newer one gets further than that;
 *      the older one has changed nothing, and is told.
 *   2. The token in the database only goes up, and only in a fence. A fence that
 *      finds its own token or a newer one there has lost, and gives its claim up.
 *   3. A claim is made by open(2) with O_EXCL: two that want the same token do not
 *      both get it, whether or not the file system has locks. Its name holds the
 *      token, so a claim is never mistaken for a later one; one that is empty or
 *      torn, because its maker died just then, is somebody unknown.
 *   4. Nobody is taken over who can be known to live: under the same kernel (boot
 *      id, pid namespace) pid and start time decide; elsewhere the record must
 *      have stood still for the silent_ms that it names itself, by the monotonic
 *      clock of the process that watches. Clocks are never compared.
 *   5. A claim is removed by its holder (it is given back) or after a fence with
 *      a newer token is committed. So at each instant the newest claim tells who
 *      holds the lease or wants to, and a death anywhere leaves a claim that is
 *      taken over like any other.
 *
 *   none --open--> claimed(T) --fence--> held(T) --unlink--> none
 *                      |                   |
 *                    death        death, or silence
 *                      v                   v
 *                    stale(T) --open T+1--> claimed(T+1) --fence--> held(T+1)
 *
 *   held(T), asleep while another fences T+1: the next transaction fails.
 *   claimed(T), asleep while another fences T+1: its own fence fails.
 *   claims removed by hand: whoever comes next fences a newer token.
 *
 * On a local disk a lock of the kernel on `lease` stands for the claim: it is
 * dropped with its holder, and nothing needs to beat. Look and take heed both,
 * so that PIOCHE_FS can be changed between two commands. */
#include "store/lease.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/str.h"
#include "store/lease_beat.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/proc.h"

#define SILENT_S 30
#define SILENT_S_MAX 3600
#define LOOKS_PER_SILENCE 40
#define TRIES 8                /* races for a claim that are lost one after the other */

struct pio_lease {
	int64_t token;
	int lock_fd;               /* of a local one, else -1 */
	char *claim;               /* path of a network one, else NULL */
	pio_lease_beat *beat;
};

static int path_in_store(pio_str *path, const pio_store *store, pio_err *err, const char *format,
                         int64_t number)
{
	pio_str_printf(path, "%s/", pio_store_path(store));
	pio_str_printf(path, format, (long long)number);
	return pio_str_check(path, err);
}

static int silent_ms(void)
{
	const char *text = getenv("PIOCHE_LEASE_S");
	long seconds = text ? strtol(text, NULL, 10) : SILENT_S;
	return 1000 * (int)(seconds < 1 ? SILENT_S : seconds > SILENT_S_MAX ? SILENT_S_MAX : seconds);
}

/* ---- the record ------------------------------------------------------------------------- */

/* What is the same for all processes that can see each other's numbers. */
static void put_kernel(pio_str *kernel)
{
	char space[128] = "";
	ssize_t n = readlink("/proc/self/ns/pid", space, sizeof space - 1);
	(void)pio_fs_read(kernel, "/proc/sys/kernel/random/boot_id", NULL);
	while (kernel->len && kernel->data[kernel->len - 1] == '\n')
		kernel->data[--kernel->len] = 0;
	pio_str_printf(kernel, " %.*s", (int)(n > 0 ? n : 0), space);
}

static void put_command(pio_str *json)
{
	pio_str command = PIO_STR_INIT;
	(void)pio_fs_read(&command, "/proc/self/cmdline", NULL);
	for (size_t i = 0; i < command.len; i++)
		if ((unsigned char)command.data[i] < ' ')
			command.data[i] = ' ';
	while (command.len && command.data[command.len - 1] == ' ')
		command.len--;
	pio_str_put_json(json, command.data, command.len < 200 ? command.len : 200);
	pio_str_fini(&command);
}

static int put_record(pio_str *record, int64_t token, pio_err *err)
{
	char host[256] = "?";
	pio_str kernel = PIO_STR_INIT;
	gethostname(host, sizeof host - 1);
	put_kernel(&kernel);
	pio_str_printf(record, PIO_LEASE_BEATS_FORMAT ",\"token\":%lld,\"silent_ms\":%d,\"pid\":%ld,"
	               "\"start_ticks\":%llu,\"host\":", (long long)0, (long long)token, silent_ms(),
	               (long)getpid(), (unsigned long long)pio_proc_start_ticks(getpid()));
	pio_str_put_json(record, host, strlen(host));
	pio_str_puts(record, ",\"kernel\":");
	pio_str_put_json(record, kernel.data, kernel.len);
	pio_str_puts(record, ",\"command\":");
	put_command(record);
	pio_str_puts(record, "}\n");
	int rc = pio_str_check(record, err);
	pio_str_fini(&kernel);
	return rc;
}

static bool is_same_kernel(const json_t *record)
{
	pio_str kernel = PIO_STR_INIT;
	put_kernel(&kernel);
	bool same = !kernel.failed && strcmp(kernel.data, pio_json_string_or(record, "kernel", "")) == 0;
	pio_str_fini(&kernel);
	return same;
}

/* Bytes that are no record are held by somebody unknown, who is watched. */
static void read_record(pio_lease_look *look, const char *text, size_t size)
{
	json_t *record = NULL;
	look->state = PIO_LEASE_FAR;
	look->silent_ms = silent_ms();
	snprintf(look->holder, sizeof look->holder, "unknown");
	if (pio_json_parse(&record, text, size, "lease", NULL) != 0 || !json_is_object(record)) {
		json_decref(record);
		return;
	}
	int64_t pid = pio_json_int_or(record, "pid", 0), silent = pio_json_int_or(record, "silent_ms", 0);
	if (silent >= 1000 && silent <= 1000 * SILENT_S_MAX)
		look->silent_ms = (int)silent;
	snprintf(look->holder, sizeof look->holder, "%.100s, pid %lld, %.300s",
	         pio_json_string_or(record, "host", "?"), (long long)pid,
	         pio_json_string_or(record, "command", "?"));
	if (is_same_kernel(record) && pid > 0 && pid <= INT_MAX)
		look->state = pio_proc_start_ticks((pid_t)pid) ==
		              (uint64_t)pio_json_int_or(record, "start_ticks", 0) ? PIO_LEASE_HELD : PIO_LEASE_DEAD;
	json_decref(record);
}

/* ---- looking ------------------------------------------------------------------------------ */

/* The token of "lease.<token>"; 0 for any other name. */
static int64_t token_of(const char *name)
{
	char *rest;
	if (strncmp(name, "lease.", 6) != 0 || name[6] < '1' || name[6] > '9')
		return 0;
	errno = 0;
	long long token = strtoll(name + 6, &rest, 10);
	return *rest == 0 && !errno ? token : 0;
}

/* The newest claim, and its bytes; *token 0 when there is none. */
static int newest_claim(int64_t *token, pio_str *record, const pio_store *store, pio_err *err)
{
	char **names = NULL;
	size_t count = 0;
	pio_str path = PIO_STR_INIT;
	int64_t newest = 0;
	int rc = pio_fs_list(&names, &count, pio_store_path(store), err);
	for (size_t i = 0; i < count; i++)
		if (token_of(names[i]) > newest)
			newest = token_of(names[i]);
	pio_fs_list_free(names, count);
	*token = newest;
	pio_str_clear(record);
	if (!rc && newest) {
		rc = path_in_store(&path, store, err, "lease.%lld", newest);
		if (!rc)
			rc = pio_fs_read(record, path.data, err);
		if (rc == -PIO_ENOTFOUND) { /* given back a moment ago */
			*token = 0;
			rc = 0;
		}
	}
	pio_str_fini(&path);
	return rc;
}

static int look_locally(pio_lease_look *look, bool *locked, const pio_store *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT, record = PIO_STR_INIT;
	int rc = path_in_store(&path, store, err, "lease", 0);
	if (!rc)
		rc = pio_fs_is_locked(locked, path.data, err);
	if (!rc && *locked) {
		(void)pio_fs_read(&record, path.data, NULL);
		read_record(look, record.data, record.len);
		look->state = PIO_LEASE_HELD;
	}
	pio_str_fini(&path);
	pio_str_fini(&record);
	return rc;
}

static int look_with(pio_lease_look *look, pio_str *record, const pio_store *store, pio_err *err)
{
	bool locked = false;
	*look = (pio_lease_look){ .state = PIO_LEASE_FREE };
	int rc = newest_claim(&look->token, record, store, err);
	if (!rc && look->token)
		read_record(look, record->data, record->len);
	if (!rc && look->state != PIO_LEASE_HELD)
		rc = look_locally(look, &locked, store, err);
	return rc;
}

int pio_store_lease_look(pio_lease_look *look, pio_store *store, pio_err *err)
{
	pio_str record = PIO_STR_INIT;
	int rc = look_with(look, &record, store, err);
	pio_str_fini(&record);
	return rc;
}

static int busy(const pio_store *store, const pio_lease_look *look, pio_err *err)
{
	return pio_fail(err, PIO_EBUSY, "store %s is in use by another pioche (%s)",
	                pio_store_path(store), look->holder[0] ? look->holder : "unknown");
}

/* Watch a far holder. 0: it was silent for its time, or its claim is another one
 * now and is to be looked at again (*again); PIO_EBUSY: it lives. */
static int watch(bool *again, const pio_lease_look *look, const pio_str *seen, const pio_store *store,
                 pio_err *err)
{
	pio_str now = PIO_STR_INIT;
	int64_t token = look->token, begin_ns = pio_clock_mono_ns(), waited_ns;
	int rc = 0;
	do {
		pio_clock_sleep_ms(look->silent_ms / LOOKS_PER_SILENCE + 1);
		waited_ns = pio_clock_mono_ns() - begin_ns; /* before the last look, not after */
		rc = newest_claim(&token, &now, store, err);
		if (!rc && token == look->token &&
		    (now.len != seen->len || memcmp(now.data, seen->data, now.len) != 0))
			rc = busy(store, look, err);
		*again = !rc && token != look->token;
	} while (!rc && !*again && waited_ns < (int64_t)look->silent_ms * 1000000);
	pio_str_fini(&now);
	return rc;
}

/* ---- taking ------------------------------------------------------------------------------- */

/* Claims that the fence has made void, and databases that somebody who died was
 * making (open.c): what cannot be removed harms nobody. */
static void sweep(const pio_store *store, int64_t token)
{
	char **names = NULL;
	size_t count = 0;
	if (pio_fs_list(&names, &count, pio_store_path(store), NULL) != 0)
		return;
	for (size_t i = 0; i < count; i++) {
		int64_t other = token_of(names[i]);
		pio_str path = PIO_STR_INIT;
		pio_str_printf(&path, "%s/%s", pio_store_path(store), names[i]);
		bool part = strncmp(names[i], "pioche.db.part.", 15) == 0;
		if (((other && other < token) || part) && !path.failed)
			(void)pio_fs_unlink(path.data, NULL);
		pio_str_fini(&path);
	}
	pio_fs_list_free(names, count);
}

/* PIO_EEXIST: somebody else was faster. */
static int make_claim(pio_lease *lease, const pio_store *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT, record = PIO_STR_INIT;
	int fd = -1;
	int rc = path_in_store(&path, store, err, "lease.%lld", lease->token);
	if (!rc)
		rc = put_record(&record, lease->token, err);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_EXCL, 0666, err);
	if (rc)
		goto out;
	if (!(lease->claim = pio_str_take(&path))) {
		rc = pio_fail(err, PIO_ENOMEM, "out of memory for the lease");
		goto out;
	}
	rc = pio_fs_write_all(fd, record.data, record.len, lease->claim, err);
	if (!rc)
		rc = pio_fs_datasync(fd, lease->claim, err);
	if (!rc)
		rc = pio_fs_sync_dir(pio_store_path(store), err);
out:
	if (fd >= 0)
		close(fd);
	pio_str_fini(&path);
	pio_str_fini(&record);
	return rc;
}

static int make_lock(pio_lease *lease, const pio_store *store, pio_err *err)
{
	pio_str path = PIO_STR_INIT, record = PIO_STR_INIT;
	int rc = path_in_store(&path, store, err, "lease", 0);
	if (!rc)
		rc = put_record(&record, 0, err);
	if (!rc)
		rc = pio_fs_lock(&lease->lock_fd, path.data, err);
	if (rc == -PIO_EBUSY)
		rc = -PIO_EEXIST;
	if (!rc && ftruncate(lease->lock_fd, 0) != 0)
		rc = pio_fail_errno(err, errno, "%s", path.data);
	if (!rc)
		rc = pio_fs_write_all(lease->lock_fd, record.data, record.len, path.data, err);
	pio_str_fini(&path);
	pio_str_fini(&record);
	return rc;
}

static void lease_free(pio_lease *lease)
{
	if (!lease)
		return;
	pio_lease_beat_stop(lease->beat);
	if (lease->claim)
		(void)pio_fs_unlink(lease->claim, NULL);
	pio_fs_unlock(&lease->lock_fd);
	pio_free(lease->claim);
	pio_free(lease);
}

static int database_token(int64_t *token, pio_store *store, pio_err *err)
{
	return pio_sql_int(token, store, err, "SELECT token FROM lease WHERE id = 1", "");
}

/* PIO_EEXIST: a newer token is there already. */
static int fence(pio_lease *lease, pio_store *store, pio_err *err)
{
	int64_t there = 0;
	pio_str holder = PIO_STR_INIT;
	int rc = put_record(&holder, lease->token, err);
	if (!rc)
		rc = pio_store_begin(store, err);
	if (rc)
		goto out;
	rc = database_token(&there, store, err);
	if (!rc && there >= lease->token)
		rc = pio_fail(err, PIO_EEXIST, "the lease of store %s was taken by another process",
		              pio_store_path(store));
	if (!rc)
		rc = pio_sql_exec(store, err, "INSERT INTO lease (id, token, holder, taken_ns) VALUES"
		                  " (1, ?1, ?2, ?3) ON CONFLICT (id) DO UPDATE SET token = excluded.token,"
		                  " holder = excluded.holder, taken_ns = excluded.taken_ns", "iti",
		                  lease->token, holder.data, pio_clock_wall_ns());
	if (!rc)
		rc = pio_store_commit(store, err);
	else
		pio_store_rollback(store);
out:
	pio_str_fini(&holder);
	return rc;
}

/* One try. PIO_EEXIST: a race was lost, look again. */
static int take_now(pio_lease **out, pio_store *store, int64_t newest, pio_err *err)
{
	int64_t there = 0;
	bool network = pio_store_is_network(store);
	pio_lease *lease = pio_calloc(1, sizeof *lease);
	if (!lease)
		return pio_fail(err, PIO_ENOMEM, "out of memory for the lease");
	lease->lock_fd = -1;
	int rc = network ? 0 : make_lock(lease, store, err);
	if (!rc)
		rc = database_token(&there, store, err);
	lease->token = (there > newest ? there : newest) + 1;
	if (!rc && network)
		rc = make_claim(lease, store, err);
	if (!rc)
		rc = fence(lease, store, err);
	if (!rc && network)
		rc = pio_lease_beat_start(&lease->beat, lease->claim, silent_ms() / 10, err);
	if (rc) {
		lease_free(lease);
		return rc;
	}
	sweep(store, lease->token);
	*out = lease;
	return 0;
}

int pio_store_lease_take(pio_store *store, pio_err *err)
{
	pio_lease **slot = pio_store_lease_slot(store);
	pio_lease_look look;
	pio_str record = PIO_STR_INIT;
	int rc = *slot ? 0 : -PIO_EEXIST;
	for (int i = 0; rc == -PIO_EEXIST && i < TRIES; i++) {
		bool again = false;
		rc = look_with(&look, &record, store, err);
		if (!rc && look.state == PIO_LEASE_HELD)
			rc = busy(store, &look, err);
		if (!rc && look.state == PIO_LEASE_FAR)
			rc = watch(&again, &look, &record, store, err);
		if (!rc)
			rc = again ? -PIO_EEXIST : take_now(slot, store, look.token, err);
	}
	if (rc == -PIO_EEXIST)
		rc = busy(store, &look, err);
	pio_str_fini(&record);
	return rc;
}

void pio_store_lease_drop(pio_store *store)
{
	pio_lease **slot = pio_store_lease_slot(store);
	lease_free(*slot);
	*slot = NULL;
}

int pio_store_lease_check(pio_store *store, pio_err *err)
{
	const pio_lease *lease = *pio_store_lease_slot(store);
	pio_lease_look now = { .holder = "" };
	if (!lease)
		return 0;
	sqlite3_stmt *row = pio_sql_query(store, err, "SELECT token, holder FROM lease WHERE id = 1", "");
	int rc = pio_sql_row(store, row, err);
	if (rc < 0)
		return rc;
	if (rc == 1 && sqlite3_column_int64(row, 0) == lease->token) {
		pio_sql_reset(row);
		return 0;
	}
	if (rc == 1)
		read_record(&now, (const char *)sqlite3_column_text(row, 1),
		            (size_t)sqlite3_column_bytes(row, 1));
	pio_sql_reset(row);
	return pio_fail(err, PIO_ETIMEOUT, "store %s: another pioche (%s) took over while this one was silent;"
	                " it writes no more", pio_store_path(store), now.holder[0] ? now.holder : "unknown");
}
