#include "exchange/exchange.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "exchange/database.h"
#include "exchange/importer.h"
#include "pack/weights.h"
#include "sys/fs.h"

/* ---- recognition ------------------------------------------------------------------------ */

static bool has_event_files(const char *dir)
{
	char **names = NULL;
	size_t count = 0;
	bool found = false;
	if (pio_fs_list(&names, &count, dir, NULL))
		return false;
	for (size_t i = 0; i < count && !found; i++) {
		pio_str path = PIO_STR_INIT;
		pio_str_printf(&path, "%s/%s", dir, names[i]);
		found = strstr(names[i], "tfevents") && !path.failed && pio_fs_type(path.data) == PIO_FS_FILE;
		pio_str_fini(&path);
	}
	pio_fs_list_free(names, count);
	return found;
}

static size_t read_head(char *head, size_t size_bytes, const char *path)
{
	int fd = -1;
	size_t have = 0;
	ssize_t n = 1;
	if (pio_fs_open(&fd, path, O_RDONLY | O_NONBLOCK, 0, NULL))
		return 0;
	while (have < size_bytes && n > 0) {
		if (pio_fs_read_some(&n, fd, head + have, size_bytes - have, path, NULL))
			break;
		have += (size_t)n;
	}
	(void)pio_fs_close(&fd, path, NULL);
	return have;
}

/* What is no tar, or a compressed one, is for the reader of bundles to say. */
static bool is_named_tar(const char *path)
{
	static const char *const endings[] = { ".tar", ".tar.zst", ".tar.part" };
	size_t n = strlen(path);
	for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
		if (n > strlen(endings[i]) && !strcmp(path + n - strlen(endings[i]), endings[i]))
			return true;
	return false;
}

const char *pio_exchange_format(const char *path)
{
	char head[512] = "";
	enum pio_fs_type type = pio_fs_type(path);
	if (type == PIO_FS_DIR)
		return has_event_files(path) ? "tensorboard" : NULL;
	if (type != PIO_FS_FILE)
		return NULL;
	const char *name = strrchr(path, '/');
	if (strstr(name ? name : path, "tfevents"))
		return "tensorboard";
	size_t n = read_head(head, sizeof head, path);
	if (n >= 7 && memcmp(head, ":W&B", 4) == 0)
		return "wandb";
	if (n >= 7 && memcmp(head, ":SWL", 4) == 0)
		return "swanlab";
	if (n >= 16 && memcmp(head, "SQLite format 3", 16) == 0)
		return pio_database_format(path);
	if (pio_weights_is(path))
		return "safetensors";
	if ((n >= 263 && memcmp(head + 257, "ustar", 5) == 0) || is_named_tar(path))
		return "bundle";
	return NULL;
}

/* ---- import -------------------------------------------------------------------------------- */

int pio_import(pio_import_report *report, pio_store *store, const char *format, const char *path,
               const pio_import_options *options, pio_err *err)
{
	static const struct {
		const char *format;
		int (*import)(pio_importer *importer, const char *path, pio_err *err);
	} importers[] = {
		{ "tensorboard", pio_import_tensorboard }, { "wandb", pio_import_wandb },
		{ "trackio", pio_import_trackio }, { "mlflow", pio_import_mlflow },
	};
	pio_importer importer = { store, format, options, report };
	if (strcmp(format, "swanlab") == 0)
		return pio_fail(err, PIO_EINVAL, "%s: a log of SwanLab, which is not imported; SwanLab can write "
		                "to TensorBoard or W&B beside it, and those are", path);
	/* By the name that it was given, which is told of its runs; "-" is no path. */
	if (strcmp(format, "bundle") == 0)
		return pio_import_bundle(&importer, path, err);
	for (size_t i = 0; i < sizeof importers / sizeof *importers; i++) {
		if (strcmp(importers[i].format, format) != 0)
			continue;
		char *absolute = realpath(path, NULL);
		if (!absolute)
			return pio_fail(err, PIO_ENOTFOUND, "%s: there is no such file or directory", path);
		int rc = importers[i].import(&importer, absolute, err);
		free(absolute);
		return rc;
	}
	return pio_fail(err, PIO_EINVAL, "format \"%s\": expected tensorboard, wandb, trackio, mlflow or bundle",
	                format);
}

void pio_import_report_fini(pio_import_report *report)
{
	for (size_t i = 0; i < report->runs_count; i++) {
		pio_free(report->runs[i].source);
		pio_free(report->runs[i].was);
	}
	pio_free(report->runs);
	pio_free(report->skips);
	*report = (pio_import_report)PIO_IMPORT_REPORT_INIT;
}
