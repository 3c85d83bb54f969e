#include "git/repo.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/hex.h"
#include "git/library.h"
#include "git/snapshot.h"

int pio_git_init(pio_err *err)
{
	static const char *extensions[] = { "worktreeconfig" };
	int rc = pio_git_library_load(err);
	if (rc)
		return rc;
	rc = git_libgit2_init();
	if (rc < 0)
		return pio_git_fail(err, rc, "libgit2 does not start");
	/* The library's default is to sync nothing. */
	rc = git_libgit2_opts(GIT_OPT_ENABLE_FSYNC_GITDIR, 1);
	/* `git sparse-checkout` sets it; what it guards is no matter to a snapshot. */
	if (rc >= 0)
		rc = git_libgit2_opts(GIT_OPT_SET_EXTENSIONS, extensions, sizeof extensions / sizeof *extensions);
	if (rc < 0) {
		git_libgit2_shutdown();
		return pio_git_fail(err, rc, "libgit2 refuses its options");
	}
	return 0;
}

void pio_git_shutdown(void)
{
	git_libgit2_shutdown();
}

int pio_git_fail(pio_err *err, int git_code, const char *format, ...)
{
	char what[768];
	int saved_errno = errno, code = PIO_EIO;
	const git_error *last = git_error_last();
	va_list args;
	va_start(args, format);
	vsnprintf(what, sizeof what, format, args);
	va_end(args);
	if (last && last->klass == GIT_ERROR_NOMEMORY)
		code = PIO_ENOMEM;
	else if (git_code == GIT_ENOTFOUND)
		code = PIO_ENOTFOUND;
	else if (last && last->klass == GIT_ERROR_OS && (saved_errno == ENOSPC || saved_errno == EDQUOT))
		code = PIO_ENOSPC;
	return pio_fail(err, code, "%s: %s", what, last ? last->message : "no reason given");
}

int pio_git_open(git_repository **repo, const char *repository, pio_err *err)
{
	/* The store's own is trusted as the store is, whoever of its group made it. */
	size_t len = strlen(repository), own = sizeof "/code.git" - 1;
	while (len && repository[len - 1] == '/')
		len--;
	bool is_own = len > own && strncmp(repository + len - own, "/code.git", own) == 0;
	int rc = is_own ? git_repository_open_bare(repo, repository) : git_repository_open(repo, repository);
	if (rc < 0) {
		*repo = NULL;
		return pio_git_fail(err, rc, "%s: cannot open the git repository", repository);
	}
	return 0;
}

int pio_git_commit_lookup(git_commit **commit, git_repository *repo, const char *hex, pio_err *err)
{
	git_oid oid;
	*commit = NULL;
	if (!pio_hex_valid(hex, PIO_GIT_HEX) || git_oid_fromstr(&oid, hex))
		return pio_fail(err, PIO_EINVAL, "commit \"%.64s\": expected %d lower-case hexadecimal digits",
		                hex, PIO_GIT_HEX);
	int rc = git_commit_lookup(commit, repo, &oid);
	if (rc < 0)
		return pio_git_fail(err, rc, "%s: commit %s", git_repository_path(repo), hex);
	return 0;
}

int pio_git_tree_of(git_tree **tree, git_repository *repo, const char *commit_hex, pio_err *err)
{
	git_commit *commit = NULL;
	*tree = NULL;
	int rc = pio_git_commit_lookup(&commit, repo, commit_hex, err);
	if (rc)
		return rc;
	rc = git_commit_tree(tree, commit);
	if (rc < 0)
		rc = pio_git_fail(err, rc, "tree of commit %s", commit_hex);
	git_commit_free(commit);
	return rc;
}
