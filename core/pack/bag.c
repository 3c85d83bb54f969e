#include "pack/bag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/hex.h"
#include "base/mem.h"
#include "pack/bundle.h"

#define HEX PIO_BUNDLE_HEX

bool pio_bag_name_valid(const char *name)
{
	size_t len = strlen(name);
	return len && len <= PIO_BUNDLE_NAME_BYTES_MAX && *name != '.' && *name != '-' &&
	       strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+=@-") == len;
}

const char *pio_bag_path_problem(const char *path)
{
	size_t len = strlen(path);
	if (!len)
		return "is empty";
	if (len > PIO_BAG_PATH_BYTES_MAX)
		return "is longer than 1000 bytes";
	if (*path == '/')
		return "is absolute";
	for (const char *at = path; *at; at++) {
		if (*at < 0x20 || *at > 0x7e || *at == '%' || *at == '\\')
			return "has a control character, '%', '\\' or a byte that is not ASCII";
	}
	for (const char *at = path;; at++) {
		size_t part = strcspn(at, "/");
		if (!part || (part == 1 && *at == '.'))
			return "has an empty or \".\" component";
		if (part > 255)
			return "has a component longer than 255 bytes";
		if (part == 2 && at[0] == '.' && at[1] == '.')
			return "has a \"..\" component";
		at += part;
		if (!*at)
			return NULL;
	}
}

void pio_bag_put_line(pio_str *manifest, const char *sha256, const char *path)
{
	pio_str_printf(manifest, "%s  %s\n", sha256, path);
}

static int compare_lines(const void *left, const void *right)
{
	return strcmp(((const pio_bag_line *)left)->path, ((const pio_bag_line *)right)->path);
}

static int parse_line(pio_bag_line *line, const char *text, size_t len, const char *what,
                      size_t number, pio_err *err)
{
	if (len < HEX + 3 || text[HEX] != ' ' || text[HEX + 1] != ' ')
		goto bad;
	memcpy(line->sha256, text, HEX);
	line->sha256[HEX] = 0;
	if (!pio_hex_valid(line->sha256, HEX) || memchr(text, 0, len))
		goto bad;
	pio_str path = PIO_STR_INIT;
	pio_str_append(&path, text + HEX + 2, len - HEX - 2);
	line->path = pio_str_take(&path);
	if (!line->path)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory", what);
	const char *problem = pio_bag_path_problem(line->path);
	if (problem)
		return pio_fail(err, PIO_ECORRUPT, "%s, line %zu: path \"%.200s\" %s", what, number,
		                line->path, problem);
	return 0;
bad:
	return pio_fail(err, PIO_ECORRUPT, "%s, line %zu: expected 64 lower-case hexadecimal digits, two "
	                "spaces and a path", what, number);
}

int pio_bag_manifest_parse(pio_bag_manifest *manifest, const char *text, size_t size_bytes,
                           const char *what, pio_err *err)
{
	size_t lines = 0;
	int rc = 0;
	*manifest = (pio_bag_manifest){ NULL, 0 };
	for (size_t i = 0; i < size_bytes; i++)
		lines += text[i] == '\n';
	if (size_bytes && text[size_bytes - 1] != '\n')
		return pio_fail(err, PIO_ECORRUPT, "%s: the last line does not end", what);
	manifest->lines = pio_calloc(lines, sizeof *manifest->lines);
	if (!manifest->lines)
		return pio_fail(err, PIO_ENOMEM, "%s: out of memory for %zu lines", what, lines);
	for (const char *at = text; manifest->count < lines && !rc;) {
		size_t len = (size_t)((const char *)memchr(at, '\n', size_bytes - (size_t)(at - text)) - at);
		pio_bag_line *line = &manifest->lines[manifest->count++];
		rc = parse_line(line, at, len, what, manifest->count, err);
		at += len + 1;
	}
	if (rc)
		return rc;
	qsort(manifest->lines, lines, sizeof *manifest->lines, compare_lines);
	for (size_t i = 1; i < lines; i++) {
		if (!strcmp(manifest->lines[i - 1].path, manifest->lines[i].path))
			return pio_fail(err, PIO_ECORRUPT, "%s: path \"%.200s\" is listed twice", what,
			                manifest->lines[i].path);
	}
	return 0;
}

const pio_bag_line *pio_bag_manifest_find(const pio_bag_manifest *manifest, const char *path)
{
	pio_bag_line key = { .path = (char *)path };
	return manifest->count ? bsearch(&key, manifest->lines, manifest->count,
	                                 sizeof *manifest->lines, compare_lines) : NULL;
}

void pio_bag_manifest_fini(pio_bag_manifest *manifest)
{
	for (size_t i = 0; i < manifest->count; i++)
		pio_free(manifest->lines[i].path);
	pio_free(manifest->lines);
	*manifest = (pio_bag_manifest){ NULL, 0 };
}

static bool read_count(int64_t *value, const char **at, char end)
{
	char *stop = NULL;
	if (**at < '0' || **at > '9')
		return false;
	errno = 0;
	*value = strtoll(*at, &stop, 10);
	if (errno || *stop != end)
		return false;
	*at = stop + 1;
	return true;
}

bool pio_bag_oxum(const char *bag_info, int64_t *payload_bytes, int64_t *files)
{
	static const char label[] = "Payload-Oxum: ";
	for (const char *line = bag_info; line && *line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, label, sizeof label - 1))
			continue;
		line += sizeof label - 1;
		return read_count(payload_bytes, &line, '.') && read_count(files, &line, '\n');
	}
	return false;
}
