#include "store/intake_parts.h"

#include <fcntl.h>
#include <limits.h>
#include <string.h>

#include "base/mem.h"
#include "store/points_file.h"
#include "store/sql.h"
#include "store/tail.h"
#include "sys/fs.h"
#include "sys/hash.h"

/* Where blocks go: they come sorted by series and attempt (points_file.h). */
typedef struct goal {
	pio_str key;
	int32_t rank, attempt;
	pio_tail tail;
	bool open;
} goal;

static int find_series(int64_t *id, bool *is_new, pio_store *store, int64_t run_id,
                       const pio_points_block *block, pio_err *err)
{
	int rc = pio_sql_exec(store, err, "INSERT INTO main.series (run_id, key, rank) VALUES (?1, ?2, ?3)"
	                      " ON CONFLICT (run_id, key, rank) DO NOTHING", "iti", run_id, block->key,
	                      (int64_t)block->rank);
	*is_new = !rc && sqlite3_changes(pio_store_db(store)) > 0;
	if (!rc)
		rc = pio_sql_int(id, store, err, "SELECT id FROM main.series WHERE run_id = ?1 AND key = ?2 AND"
		                 " rank = ?3", "iti", run_id, block->key, (int64_t)block->rank);
	return rc;
}

/* What a function of a recipe logged is of attempt 1, and that has no row (direct.h). */
static int check_attempt(const pio_intake *intake, int32_t attempt, pio_err *err)
{
	int64_t id = 0;
	if (attempt == 1 && json_array_size(json_object_get(intake->records, "attempts")) == 0)
		return 0;
	return pio_intake_attempt(&id, intake, attempt, err);
}

static int turn(goal *g, const pio_intake *intake, const pio_points_block *block, pio_err *err)
{
	int64_t series_id = 0;
	bool is_new = false;
	if (g->open && g->rank == block->rank && g->attempt == block->attempt && !strcmp(g->key.data, block->key))
		return 0;
	int rc = g->open ? pio_tail_save(&g->tail, intake->store, err) : 0;
	g->open = false;
	pio_str_clear(&g->key);
	pio_str_puts(&g->key, block->key);
	if (!rc)
		rc = pio_str_check(&g->key, err);
	if (!rc)
		rc = check_attempt(intake, block->attempt, err);
	if (!rc)
		rc = find_series(&series_id, &is_new, intake->store, intake->run->run_id, block, err);
	g->tail = (pio_tail){ .series_id = 0 };
	if (!rc)
		rc = pio_tail_load(&g->tail, intake->store, series_id, block->attempt, is_new, err);
	g->rank = block->rank;
	g->attempt = block->attempt;
	g->open = rc == 0;
	return rc;
}

static int append(goal *g, pio_store *store, const pio_points_block *block, pio_err *err)
{
	int rc = 0;
	for (size_t done = 0; !rc && done < block->count;) {
		size_t room = pio_tail_room(&g->tail), left = block->count - done, n = left < room ? left : room;
		rc = pio_tail_append(&g->tail, store, block->points + done, n, err);
		done += n;
	}
	return rc;
}

int pio_intake_points(pio_intake *intake, pio_err *err)
{
	const pio_intake_file *staged = pio_intake_file_of(intake, "run/points.bin");
	pio_points_file *file = NULL;
	pio_points_block block;
	goal g = { .key = PIO_STR_INIT };
	if (!staged)
		return pio_fail(err, PIO_ECORRUPT, "there is no %srun/points.bin", intake->prefix);
	int rc = pio_points_file_open(&file, staged->staged, err);
	while (!rc && (rc = pio_points_file_next(&block, file, err)) == 1) {
		rc = turn(&g, intake, &block, err);
		if (!rc)
			rc = append(&g, intake->store, &block, err);
		intake->run->points += (int64_t)block.count;
	}
	if (!rc && g.open)
		rc = pio_tail_save(&g.tail, intake->store, err);
	pio_points_file_close(file);
	pio_str_fini(&g.key);
	return rc;
}

int pio_intake_points_equal(bool *equal, pio_intake *intake, int64_t run_id, pio_err *err)
{
	const pio_intake_file *file = pio_intake_file_of(intake, "run/points.bin");
	char sha256[PIO_SHA256_HEX + 1];
	int64_t bytes = 0;
	int fd = -1;
	pio_str path = PIO_STR_INIT;
	*equal = false;
	pio_str_printf(&path, "%s/points", intake->bag->staging);
	int rc = file ? pio_str_check(&path, err)
	              : pio_fail(err, PIO_ECORRUPT, "there is no %srun/points.bin", intake->prefix);
	if (!rc)
		rc = pio_fs_open(&fd, path.data, O_WRONLY | O_CREAT | O_TRUNC, 0600, err);
	if (!rc)
		rc = pio_points_file_write(intake->store, run_id, fd, path.data, err);
	if (fd >= 0) {
		int closed = pio_fs_close(&fd, path.data, rc ? NULL : err);
		rc = rc ? rc : closed;
	}
	if (!rc)
		rc = pio_sha256_file(path.data, sha256, &bytes, err);
	*equal = !rc && !strcmp(sha256, file->sha256);
	pio_str_fini(&path);
	return rc;
}
