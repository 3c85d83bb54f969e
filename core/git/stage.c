#include "git/stage.h"

#include <stdbool.h>

#include <git2/sys/mempack.h>
#include <git2/sys/odb_backend.h>

#include "base/mem.h"
#include "git/repo.h"

#define FLUSH_BYTES (64 << 20)
/* Up to this many, loose objects: a pack per edited line would pile up. */
#define LOOSE_MAX 16
/* Above the priorities of the library's own backends, so that it is written to first. */
#define MEMORY_PRIORITY 1000

struct pio_stage {
	git_repository *repo;       /* borrowed */
	git_odb *odb;               /* the repository's, with `memory` on top */
	git_odb_backend *memory;    /* owned by odb */
	git_odb *disk;              /* the repository's without `memory` */
	git_oid *oids;              /* what is in memory, in the order it came */
	size_t count, capacity;
	size_t bytes;
};

static int open_disk(pio_stage *stage, pio_err *err)
{
	git_buf objects = { NULL, 0, 0 };
	int rc = git_repository_item_path(&objects, stage->repo, GIT_REPOSITORY_ITEM_OBJECTS);
	if (rc >= 0)
		rc = git_odb_open(&stage->disk, objects.ptr);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: cannot open the object database",
		                  git_repository_path(stage->repo));
	git_buf_dispose(&objects);
	return rc;
}

int pio_stage_open(pio_stage **out, git_repository *repo, pio_err *err)
{
	pio_stage *stage = pio_calloc(1, sizeof *stage);
	*out = stage;
	if (!stage)
		return pio_fail(err, PIO_ENOMEM, "out of memory while opening a git repository");
	stage->repo = repo;
	int rc = git_repository_odb(&stage->odb, repo);
	if (rc >= 0)
		rc = git_mempack_new(&stage->memory);
	if (rc >= 0) {
		rc = git_odb_add_backend(stage->odb, stage->memory, MEMORY_PRIORITY);
		if (rc < 0)
			stage->memory->free(stage->memory);
	}
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: cannot open the object database", git_repository_path(repo));
	else
		rc = open_disk(stage, err);
	if (rc) {
		pio_stage_close(stage);
		*out = NULL;
	}
	return rc;
}

int pio_stage_has(pio_stage *stage, const git_oid *oid)
{
	return git_odb_exists_ext(stage->odb, oid, GIT_ODB_LOOKUP_NO_REFRESH);
}

static int remember(pio_stage *stage, const git_oid *oid, pio_err *err)
{
	int rc = pio_grow(&stage->oids, &stage->capacity, stage->count, "new git objects", err);
	if (!rc)
		stage->oids[stage->count++] = *oid;
	return rc;
}

int pio_stage_put(git_oid *oid, pio_stage *stage, const void *bytes, size_t size_bytes,
                  git_object_t type, pio_err *err)
{
	int rc = git_odb_hash(oid, bytes, size_bytes, type);
	if (rc < 0)
		return pio_git_fail(err, rc, "cannot hash a git object");
	bool is_new = !pio_stage_has(stage, oid);
	/* For an object that is there this only renews its age against `git gc`. */
	rc = git_odb_write(oid, stage->odb, bytes, size_bytes, type);
	if (rc < 0)
		return pio_git_fail(err, rc, "cannot keep a git object");
	if (!is_new)
		return 0;
	rc = remember(stage, oid, err);
	stage->bytes += size_bytes;
	if (!rc && stage->bytes >= FLUSH_BYTES)
		rc = pio_stage_flush(stage, err);
	return rc;
}

static int flush_loose(pio_stage *stage)
{
	int rc = 0;
	for (size_t i = 0; i < stage->count && rc >= 0; i++) {
		git_odb_object *object = NULL;
		git_oid oid;
		rc = git_odb_read(&object, stage->odb, &stage->oids[i]);
		if (rc >= 0)
			rc = git_odb_write(&oid, stage->disk, git_odb_object_data(object),
			                   git_odb_object_size(object), git_odb_object_type(object));
		git_odb_object_free(object);
	}
	return rc;
}

static int flush_pack(pio_stage *stage)
{
	git_packbuilder *builder = NULL;
	int rc = git_packbuilder_new(&builder, stage->repo);
	for (size_t i = 0; i < stage->count && rc >= 0; i++)
		rc = git_packbuilder_insert(builder, &stage->oids[i], NULL);
	if (rc >= 0)
		rc = git_packbuilder_write(builder, NULL, 0, NULL, NULL);
	git_packbuilder_free(builder);
	return rc;
}

int pio_stage_flush(pio_stage *stage, pio_err *err)
{
	if (!stage->count)
		return 0;
	int rc = stage->count <= LOOSE_MAX ? flush_loose(stage) : flush_pack(stage);
	if (rc >= 0)
		rc = git_mempack_reset(stage->memory);
	if (rc >= 0)
		rc = git_odb_refresh(stage->odb);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot write %zu git objects",
		                    git_repository_path(stage->repo), stage->count);
	stage->count = 0;
	stage->bytes = 0;
	return 0;
}

int pio_stage_write_now(git_oid *oid, pio_stage *stage, const void *bytes, size_t size_bytes,
                        git_object_t type, pio_err *err)
{
	int rc = git_odb_write(oid, stage->disk, bytes, size_bytes, type);
	if (rc >= 0)
		rc = git_odb_refresh(stage->odb);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: cannot write a git object",
		                    git_repository_path(stage->repo));
	return 0;
}

void pio_stage_close(pio_stage *stage)
{
	if (!stage)
		return;
	git_odb_free(stage->disk);
	git_odb_free(stage->odb);
	pio_free(stage->oids);
	pio_free(stage);
}
