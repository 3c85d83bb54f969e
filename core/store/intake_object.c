#include "store/intake_parts.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/hex.h"
#include "base/json.h"
#include "store/checkpoint.h"
#include "store/checkpoint_cover.h"
#include "store/checkpoint_tensor.h"
#include "store/object.h"
#include "store/sql.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/save.h"

#define MANIFEST_BYTES_MAX (256 << 20)

/* ---- objects ------------------------------------------------------------------------- */

int pio_intake_object(bool *found, pio_intake *intake, const char *sha256, pio_err *err)
{
	int64_t known = 0;
	const pio_intake_file *file = pio_intake_with_digest(intake, sha256);
	int rc = pio_sql_int(&known, intake->store, err, "SELECT EXISTS (SELECT 1 FROM object WHERE sha256 = ?1)",
	                     "t", sha256);
	*found = known || file;
	if (rc || !file)
		return rc;
	char prefix[3] = { sha256[0], sha256[1], 0 };
	intake->touched[strtoul(prefix, NULL, 16) & 255] = true;
	/* A file without a row may be that of a publish that was cut short, and is not ours. */
	pio_str path = PIO_STR_INIT;
	rc = pio_store_object_path(&path, intake->store, sha256, err);
	bool was_there = !rc && pio_fs_type(path.data) != PIO_FS_NONE;
	pio_str_fini(&path);
	if (!rc)
		rc = pio_store_object_put(intake->store, file->staged, sha256, file->bytes, err);
	intake->moved[file - intake->bag->files] |= !known && !was_there; /* several ranks may have the same */
	return rc;
}

/* Under the write lock, so that no fold adopts it meanwhile. */
void pio_intake_undo_objects(pio_intake *intake)
{
	if (pio_store_begin(intake->store, NULL))
		return;
	for (size_t i = 0; i < intake->bag->count; i++) {
		pio_str path = PIO_STR_INIT;
		int64_t known = 1;
		if (intake->moved[i] &&
		    pio_sql_int(&known, intake->store, NULL, "SELECT EXISTS (SELECT 1 FROM object WHERE"
		                " sha256 = ?1)", "t", intake->bag->files[i].sha256) == 0 && !known &&
		    pio_store_object_path(&path, intake->store, intake->bag->files[i].sha256, NULL) == 0) {
			(void)pio_fs_unlink(path.data, NULL);
			path.data[path.len - PIO_SHA256_HEX - 1] = 0;
			(void)rmdir(path.data); /* if it is empty by now */
		}
		pio_str_fini(&path);
	}
	pio_store_rollback(intake->store);
}

int pio_intake_sync_objects(pio_intake *intake, pio_err *err)
{
	char name[PIO_SHA256_HEX + 1];
	int rc = 0;
	memset(name, '0', PIO_SHA256_HEX);
	name[PIO_SHA256_HEX] = 0;
	for (unsigned i = 0; !rc && i < 256; i++) {
		if (!intake->touched[i])
			continue;
		name[0] = "0123456789abcdef"[i >> 4];
		name[1] = "0123456789abcdef"[i & 15];
		rc = pio_store_object_sync(intake->store, name, err);
	}
	return rc;
}

/* ---- media ------------------------------------------------------------------------------ */

/* The bytes of a small one, wherever they are by now, as pio_intake_row has them. */
static int read_small(json_t **fixed, pio_intake *intake, const pio_intake_file *file, pio_err *err)
{
	pio_str path = PIO_STR_INIT, bytes = PIO_STR_INIT, hex = PIO_STR_INIT;
	bool moved = pio_fs_type(file->staged) == PIO_FS_NONE;
	int rc = moved ? pio_store_object_path(&path, intake->store, file->sha256, err) : 0;
	if (!rc)
		rc = pio_fs_read(&bytes, moved ? path.data : file->staged, err);
	for (size_t i = 0; !rc && i < bytes.len; i++) {
		pio_str_putc(&hex, "0123456789abcdef"[(unsigned char)bytes.data[i] >> 4]);
		pio_str_putc(&hex, "0123456789abcdef"[bytes.data[i] & 15]);
	}
	if (!rc)
		rc = pio_str_check(&hex, err);
	if (!rc) {
		pio_intake_put(fixed, "data", json_pack("{s:s}", "blob", hex.data));
		pio_intake_put(fixed, "sha256", json_null());
	}
	pio_str_fini(&path);
	pio_str_fini(&bytes);
	pio_str_fini(&hex);
	return rc;
}

static int take_medium(pio_intake *intake, const json_t *row, pio_err *err)
{
	const char *sha256 = NULL;
	bool found = false;
	int rc = pio_json_get_string(row, "sha256", &sha256, "a medium", err);
	const pio_intake_file *file = rc ? NULL : pio_intake_with_digest(intake, sha256);
	if (!rc && !file)
		rc = pio_fail(err, PIO_ECORRUPT, "a medium has the digest %.64s, as no file of the bundle has", sha256);
	json_t *fixed = json_pack("{s:I, s:I}", "run_id", (json_int_t)intake->run->run_id, "bytes",
	                          file ? (json_int_t)file->bytes : 0);
	/* In its row where it was in one before, so that it is exported as it was. */
	bool in_row = !rc && json_is_true(json_object_get(row, "inline")) &&
	              file->bytes <= PIO_INTAKE_INLINE_BYTES_MAX;
	if (in_row)
		rc = read_small(&fixed, intake, file, err);
	else if (!rc)
		rc = pio_intake_object(&found, intake, sha256, err);
	if (rc)
		json_decref(fixed);
	else
		rc = pio_intake_row(intake, "media", row, fixed, "a medium", err);
	intake->run->media += rc == 0;
	return rc;
}

int pio_intake_media(pio_intake *intake, pio_err *err)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(intake->records, "media"), i, row) {
		int rc = take_medium(intake, row, err);
		if (rc)
			return rc;
	}
	return 0;
}

/* ---- checkpoints --------------------------------------------------------------------------- */

/* The manifest is a file of the bundle by its digest, and of this run and step. */
static int read_manifest(pio_str *text, json_t **manifest, const pio_intake *intake, const json_t *row,
                         pio_err *err)
{
	const char *name = NULL;
	int rc = pio_json_get_string(row, "manifest_sha256", &name, "a checkpoint", err);
	const pio_intake_file *file = rc ? NULL : pio_intake_with_digest(intake, name);
	if (!rc && !file)
		rc = pio_fail(err, PIO_ECORRUPT, "a checkpoint has the digest %.64s, as no file of the bundle has",
		              name);
	if (!rc)
		rc = pio_intake_read(text, file, MANIFEST_BYTES_MAX, err);
	if (!rc)
		rc = pio_json_parse(manifest, text->data, text->len, file->path, err);
	if (!rc && (strcmp(pio_json_string_or(*manifest, "run", ""), intake->run->ulid) != 0 ||
	            pio_json_int_or(*manifest, "step", INT64_MIN) != pio_json_int_or(row, "step", 0)))
		rc = pio_fail(err, PIO_ECORRUPT, "%s is of another run or step than its row says", file->path);
	return rc;
}

/* All of its files become objects; *found false: some are left out. */
static int take_files(bool *found, pio_intake *intake, const json_t *manifest, pio_err *err)
{
	size_t i;
	json_t *file;
	json_t *files = json_object_get(manifest, "files");
	int rc = json_array_size(files) ? 0 : pio_fail(err, PIO_ECORRUPT, "a checkpoint without files");
	*found = true;
	/* Looked for before the first of them moves. */
	json_array_foreach(files, i, file) {
		const char *sha256 = pio_json_string_or(file, "sha256", "");
		const pio_intake_file *staged = pio_intake_with_digest(intake, sha256);
		int64_t bytes = staged ? staged->bytes : 0;
		if (!rc && !staged)
			rc = pio_sql_int(&bytes, intake->store, err, "SELECT bytes FROM object WHERE sha256 = ?1", "t",
			                 sha256);
		if (rc || (!staged && !bytes))
			*found = false;
		else if (bytes != pio_json_int_or(file, "bytes", -1))
			return pio_fail(err, PIO_ECORRUPT, "%.64s has %lld bytes, the manifest of its checkpoint says"
			                " otherwise", sha256, (long long)bytes);
	}
	json_array_foreach(files, i, file) {
		const char *sha256 = pio_json_string_or(file, "sha256", "");
		bool there;
		if (rc || !*found)
			return rc;
		rc = pio_intake_object(&there, intake, sha256, err);
		if (!rc)
			rc = pio_checkpoint_tensors(intake->store, sha256, pio_json_int_or(file, "bytes", 0), err);
	}
	return rc;
}

/* As a rank's report has them. */
static int check_file(const json_t *file, pio_err *err)
{
	const char *role = pio_json_string_or(file, "role", "");
	int64_t rank = pio_json_int_or(file, "rank", -1), part = pio_json_int_or(file, "part", 0);
	if (pio_save_role_valid(role, strlen(role)) && rank >= 0 && rank <= INT32_MAX && part >= 0 &&
	    part < PIO_SAVE_FILES_MAX)
		return 0;
	return pio_fail(err, PIO_ECORRUPT, "a checkpoint has a file of role \"%.80s\" and rank %lld, part %lld, as no"
	                " rank saves any", role, (long long)rank, (long long)part);
}

static int insert_files(pio_intake *intake, const json_t *manifest, int64_t checkpoint_id, pio_err *err)
{
	size_t i;
	json_t *file;
	json_array_foreach(json_object_get(manifest, "files"), i, file) {
		json_t *row = json_pack("{s:O?, s:O?, s:O?, s:I}", "rank", json_object_get(file, "rank"), "role",
		                        json_object_get(file, "role"), "sha256", json_object_get(file, "sha256"),
		                        "part", (json_int_t)pio_json_int_or(file, "part", 0));
		int rc = check_file(file, err);
		if (!rc)
			rc = pio_intake_row(intake, "checkpoint_file", row,
			                    json_pack("{s:I}", "checkpoint_id", (json_int_t)checkpoint_id),
			                    "the manifest of a checkpoint", err);
		json_decref(row);
		if (rc)
			return rc;
	}
	return 0;
}

static int take_checkpoint(pio_intake *intake, const json_t *row, pio_err *err)
{
	json_t *manifest = NULL;
	pio_str text = PIO_STR_INIT;
	int64_t known = 0;
	bool found = false;
	int rc = read_manifest(&text, &manifest, intake, row, err);
	if (!rc)
		rc = pio_store_checkpoint_find(&known, intake->store, pio_json_string_or(row, "manifest_sha256", ""),
		                               err);
	if (!rc && !known)
		rc = take_files(&found, intake, manifest, err);
	intake->run->left_out += !rc && !known && !found;
	if (!rc && !known && found) {
		rc = pio_intake_row(intake, "checkpoint", row, json_pack("{s:I, s:s, s:s}", "run_id",
		                    (json_int_t)intake->run->run_id, "state", "sealed", "manifest", text.data),
		                    "a checkpoint", err);
		int64_t id = sqlite3_last_insert_rowid(pio_store_db(intake->store));
		if (!rc)
			rc = insert_files(intake, manifest, id, err);
		if (!rc)
			rc = pio_checkpoint_cover(intake->store, id, err);
		intake->run->checkpoints += rc == 0;
	}
	json_decref(manifest);
	pio_str_fini(&text);
	return rc;
}

int pio_intake_checkpoints(pio_intake *intake, pio_err *err)
{
	size_t i;
	json_t *row;
	json_array_foreach(json_object_get(intake->records, "checkpoints"), i, row) {
		int rc = take_checkpoint(intake, row, err);
		if (rc)
			return rc;
	}
	return 0;
}
