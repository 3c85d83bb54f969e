#include "git/export.h"

#include <string.h>

#include <git2.h>

#include "git/repo.h"
#include "git/snapshot.h"
#include "git/stage.h"
#include "sys/fs.h"

int pio_git_commit_text(pio_str *out, const pio_git_source *source, pio_err *err)
{
	git_repository *repo = NULL;
	git_commit *commit = NULL;
	git_odb *odb = NULL;
	git_odb_object *object = NULL;
	int rc = pio_git_open(&repo, source->repository, err);
	if (!rc)
		rc = pio_git_commit_lookup(&commit, repo, source->commit, err);
	if (rc)
		goto out;
	rc = git_repository_odb(&odb, repo);
	if (rc >= 0)
		rc = git_odb_read(&object, odb, git_commit_id(commit));
	if (rc < 0) {
		rc = pio_git_fail(err, rc, "commit %.12s", source->commit);
		goto out;
	}
	pio_str_append(out, git_odb_object_data(object), git_odb_object_size(object));
	rc = pio_str_check(out, err);
out:
	git_odb_object_free(object);
	git_odb_free(odb);
	git_commit_free(commit);
	git_repository_free(repo);
	return rc;
}

/* ---- files ---------------------------------------------------------------------------- */

typedef struct files {
	git_repository *repo;
	int fd;
	pio_git_file *tell;
	void *context;
	pio_str path;
} files;

static int put_file(files *f, const git_tree_entry *entry, pio_err *err)
{
	git_blob *blob = NULL;
	int rc = git_blob_lookup(&blob, f->repo, git_tree_entry_id(entry));
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: the commit's file cannot be read", f->path.data);
	int64_t size_bytes = (int64_t)git_blob_rawsize(blob);
	rc = pio_fs_write_all(f->fd, git_blob_rawcontent(blob), (size_t)size_bytes, f->path.data, err);
	git_blob_free(blob);
	return rc ? rc : f->tell(f->context, f->path.data, (unsigned)git_tree_entry_filemode(entry),
	                         size_bytes, err);
}

static int put_tree(files *f, const git_oid *oid, pio_err *err)
{
	git_tree *tree = NULL;
	size_t base = f->path.len;
	int rc = git_tree_lookup(&tree, f->repo, oid);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: the commit's directory cannot be read", f->path.data);
	for (size_t i = 0; i < git_tree_entrycount(tree) && !rc; i++) {
		const git_tree_entry *entry = git_tree_entry_byindex(tree, i);
		pio_str_printf(&f->path, "%s%s", base ? "/" : "", git_tree_entry_name(entry));
		rc = pio_str_check(&f->path, err);
		if (!rc && git_tree_entry_filemode(entry) == GIT_FILEMODE_TREE)
			rc = put_tree(f, git_tree_entry_id(entry), err);
		else if (!rc && git_tree_entry_filemode(entry) != GIT_FILEMODE_COMMIT)
			rc = put_file(f, entry, err);
		f->path.len = base;
		f->path.data[base] = 0;
	}
	git_tree_free(tree);
	return rc;
}

int pio_git_export_files(const pio_git_source *source, int fd, pio_git_file *tell, void *context,
                         pio_err *err)
{
	files f = { .fd = fd, .tell = tell, .context = context, .path = PIO_STR_INIT };
	git_tree *tree = NULL;
	pio_str_puts(&f.path, "");
	int rc = pio_git_open(&f.repo, source->repository, err);
	if (!rc)
		rc = pio_git_tree_of(&tree, f.repo, source->commit, err);
	if (!rc)
		rc = put_tree(&f, git_tree_id(tree), err);
	git_tree_free(tree);
	git_repository_free(f.repo);
	pio_str_fini(&f.path);
	return rc;
}

/* ---- bundles -------------------------------------------------------------------------- */

typedef struct packing {
	git_repository *repo;       /* the first one's, which finds objects of the others, too */
	pio_stage *stage;           /* of commits that no repository has */
	git_packbuilder *builder;
	bool history;
	pio_str head;               /* of the bundle, references and all */
	int fd;
	pio_err *err;               /* where the callback tells of a failure */
	int rc;
} packing;

/* Let `repo` find what the other repository has; nothing of it is on record there. */
static int add_objects(git_repository *repo, const char *repository, pio_err *err)
{
	git_repository *other = NULL;
	git_odb *odb = NULL;
	git_buf objects = { NULL, 0, 0 };
	int rc = pio_git_open(&other, repository, err);
	if (rc)
		return rc;
	rc = git_repository_item_path(&objects, other, GIT_REPOSITORY_ITEM_OBJECTS);
	if (rc >= 0)
		rc = git_repository_odb(&odb, repo);
	if (rc >= 0)
		rc = git_odb_add_disk_alternate(odb, objects.ptr);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "%s: cannot read the object database", repository);
	git_odb_free(odb);
	git_buf_dispose(&objects);
	git_repository_free(other);
	return rc;
}

static int open_all(packing *p, const pio_git_source *sources, size_t count, pio_err *err)
{
	int rc = pio_git_open(&p->repo, sources[0].repository, err);
	for (size_t i = 1; i < count && !rc; i++) {
		size_t same = 0;
		while (same < i && strcmp(sources[same].repository, sources[i].repository))
			same++;
		rc = same == i ? add_objects(p->repo, sources[i].repository, err) : 0;
	}
	if (!rc)
		rc = pio_stage_open(&p->stage, p->repo, err);
	return rc;
}

/* The tree of the commit as one that has no past. */
static int make_root(git_oid *oid, packing *p, const git_commit *commit, const char *name, pio_err *err)
{
	pio_str text = PIO_STR_INIT;
	char tree[PIO_GIT_HEX + 1];
	long long time_s = (long long)git_commit_time(commit);
	git_oid_tostr(tree, sizeof tree, git_commit_tree_id(commit));
	pio_str_printf(&text, "tree %s\nauthor pioche <pioche@localhost> %lld +0000\n"
	               "committer pioche <pioche@localhost> %lld +0000\n\nThe code of commit %s\n",
	               tree, time_s, time_s, name);
	int rc = pio_str_check(&text, err);
	if (!rc)
		rc = pio_stage_put(oid, p->stage, text.data, text.len, GIT_OBJECT_COMMIT, err);
	pio_str_fini(&text);
	return rc;
}

static int insert_history(packing *p, const git_oid *oid)
{
	git_revwalk *walk = NULL;
	int rc = git_revwalk_new(&walk, p->repo);
	if (rc >= 0)
		rc = git_revwalk_sorting(walk, GIT_SORT_TOPOLOGICAL | GIT_SORT_TIME);
	if (rc >= 0)
		rc = git_revwalk_push(walk, oid);
	if (rc >= 0)
		rc = git_packbuilder_insert_walk(p->builder, walk);
	git_revwalk_free(walk);
	return rc;
}

static int add_commit(packing *p, const char *hex, bool is_first, pio_err *err)
{
	git_commit *commit = NULL;
	char name[PIO_GIT_HEX + 1];
	int rc = pio_git_commit_lookup(&commit, p->repo, hex, err);
	if (rc)
		return rc;
	git_oid oid = *git_commit_id(commit);
	if (!p->history)
		rc = make_root(&oid, p, commit, hex, err);
	git_commit_free(commit);
	if (rc)
		return rc;
	rc = p->history ? insert_history(p, &oid) : git_packbuilder_insert_commit(p->builder, &oid);
	if (rc < 0)
		return pio_git_fail(err, rc, "commit %.12s cannot be packed", hex);
	git_oid_tostr(name, sizeof name, &oid);
	if (is_first)
		pio_str_printf(&p->head, "%s HEAD\n", name);
	pio_str_printf(&p->head, "%s refs/heads/code-%.12s\n", name, hex);
	return 0;
}

static int put_pack(void *bytes, size_t size_bytes, void *context)
{
	packing *p = context;
	p->rc = pio_fs_write_all(p->fd, bytes, size_bytes, "code.bundle", p->err);
	return p->rc ? GIT_EUSER : 0;
}

int pio_git_export_bundle(const pio_git_source *sources, size_t count, bool history, int fd,
                          pio_err *err)
{
	packing p = { .history = history, .head = PIO_STR_INIT, .fd = fd, .err = err };
	int rc = open_all(&p, sources, count, err);
	if (rc)
		goto out;
	rc = git_packbuilder_new(&p.builder, p.repo);
	if (rc < 0) {
		rc = pio_git_fail(err, rc, "%s: cannot begin a pack", sources[0].repository);
		goto out;
	}
	pio_str_puts(&p.head, "# v2 git bundle\n");
	for (size_t i = 0; i < count && !rc; i++)
		rc = add_commit(&p, sources[i].commit, i == 0, err);
	pio_str_putc(&p.head, '\n');
	if (!rc)
		rc = pio_str_check(&p.head, err);
	if (!rc)
		rc = pio_fs_write_all(fd, p.head.data, p.head.len, "code.bundle", err);
	if (rc)
		goto out;
	rc = git_packbuilder_foreach(p.builder, put_pack, &p);
	if (rc < 0)
		rc = p.rc ? p.rc : pio_git_fail(err, rc, "%s: the code cannot be packed", sources[0].repository);
out:
	git_packbuilder_free(p.builder);
	pio_stage_close(p.stage);
	git_repository_free(p.repo);
	pio_str_fini(&p.head);
	return rc;
}
