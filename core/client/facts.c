#include "client/facts.h"

#include <fcntl.h>
#include <gnu/libc-version.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/mem.h"
#include "sys/fs.h"
#include "sys/journal.h"

#define HEAD_BYTES 4096

static void put_name(pio_str *json, const char *name)
{
	if (json->len && json->data[json->len - 1] != '{')
		pio_str_putc(json, ',');
	pio_str_put_json(json, name, strlen(name));
	pio_str_putc(json, ':');
}

/* Nothing where there is no text. */
static void put_text(pio_str *json, const char *name, const char *text, size_t size_bytes)
{
	if (!size_bytes)
		return;
	put_name(json, name);
	pio_str_put_json(json, text, size_bytes);
}

/* The beginning of a file of the system's; "" where there is none. The rest of
 * /proc/cpuinfo costs a millisecond a CPU. */
static const char *head_of(char text[HEAD_BYTES], const char *path)
{
	int fd = -1;
	ssize_t n = 0;
	if (pio_fs_open(&fd, path, O_RDONLY, 0, NULL) == 0) {
		if (pio_fs_read_some(&n, fd, text, HEAD_BYTES - 1, path, NULL) != 0)
			n = 0;
		(void)pio_fs_close(&fd, path, NULL);
	}
	text[n] = 0;
	return text;
}

/* What stands behind `key` and its separators on a line that begins with it. */
static const char *value_of(const char *text, const char *key, size_t *size_bytes)
{
	size_t n = strlen(key);
	while (text && strncmp(text, key, n) != 0) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!text)
		return *size_bytes = 0, "";
	text += n;
	text += strspn(text, " \t:=\"");
	*size_bytes = strcspn(text, "\"\n");
	return text;
}

static void put_value_of(pio_str *json, const char *name, const char *text, const char *key)
{
	size_t n;
	const char *value = value_of(text, key, &n);
	put_text(json, name, value, n);
}

/* ---- the parts, in the order of their names ------------------------------------------ */

/* What the one who made the container left in the environment; "" where none. */
static const char *named_image(char *const *envp)
{
	static const char *const names[] = { "APPTAINER_CONTAINER=", "SINGULARITY_CONTAINER=",
	                                     "SLURM_CONTAINER=", "NVIDIA_BUILD_ID=" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		for (char *const *e = envp; *e; e++)
			if (strncmp(*e, names[i], strlen(names[i])) == 0)
				return *e + strlen(names[i]);
	return "";
}

/* Podman writes its image down for root, Docker tells no name. */
static void put_container(pio_str *json, char *const *envp)
{
	char text[HEAD_BYTES];
	size_t n;
	const char *named = named_image(envp);
	const char *image = value_of(head_of(text, "/run/.containerenv"), "image=", &n);
	if (*named)
		put_text(json, "container", named, strlen(named));
	else if (n)
		put_text(json, "container", image, n);
	else if (pio_fs_type("/run/.containerenv") != PIO_FS_NONE)
		put_text(json, "container", "podman", 6);
	else if (pio_fs_type("/.dockerenv") != PIO_FS_NONE)
		put_text(json, "container", "docker", 6);
}

static void put_cpu(pio_str *json)
{
	char text[HEAD_BYTES];
	put_name(json, "cpu");
	pio_str_printf(json, "{\"count\":%ld", sysconf(_SC_NPROCESSORS_ONLN));
	head_of(text, "/proc/cpuinfo");
	put_value_of(json, "model", text, strstr(text, "model name") ? "model name" : "CPU part");
	pio_str_putc(json, '}');
}

static void put_limits(pio_str *json)
{
	static const struct { const char *name; int which; } limits[] = {
		{ "address_space", RLIMIT_AS }, { "core", RLIMIT_CORE }, { "locked_memory", RLIMIT_MEMLOCK },
		{ "open_files", RLIMIT_NOFILE }, { "processes", RLIMIT_NPROC }, { "stack", RLIMIT_STACK },
	};
	put_name(json, "limits");
	pio_str_putc(json, '{');
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		struct rlimit limit;
		char text[32] = "unlimited";
		if (getrlimit((__rlimit_resource_t)limits[i].which, &limit) != 0)
			continue;
		if (limit.rlim_cur != RLIM_INFINITY)
			snprintf(text, sizeof text, "%llu", (unsigned long long)limit.rlim_cur);
		put_text(json, limits[i].name, text, strlen(text));
	}
	pio_str_putc(json, '}');
}

static void put_memory(pio_str *json)
{
	char text[HEAD_BYTES];
	size_t n;
	const char *value = value_of(head_of(text, "/proc/meminfo"), "MemTotal", &n);
	put_name(json, "memory_bytes");
	pio_str_printf(json, "%lld", n ? 1024 * strtoll(value, NULL, 10) : 0);
}

/* ---- variables ------------------------------------------------------------------------- */

static bool begins_with_one(const char *entry, const char *const *prefixes)
{
	for (; *prefixes; prefixes++)
		if (strncmp(entry, *prefixes, strlen(*prefixes)) == 0)
			return true;
	return false;
}

static bool is_told(const char *entry)
{
	static const char *const wanted[] = {
		"NCCL_", "TORCH_NCCL_", "UCX_", "FI_", "GLOO_", "OMP_", "KMP_", "MKL_", "OPENBLAS_", "BLIS_",
		"NUMEXPR_", "VECLIB_", "GOMP_", "MALLOC_", "CUDA_", "CUBLAS_", "CUDNN_", "NVIDIA_TF32_OVERRIDE=",
		"NVIDIA_VISIBLE_DEVICES=", "NVTE_", "PYTORCH_CUDA_ALLOC_CONF=", "PYTORCH_ALLOC_CONF=",
		"TORCH_CUDNN_", "TORCH_CUDA_ARCH_LIST=", "TORCH_FR_", "TORCHINDUCTOR_", "XLA_FLAGS=", "XLA_PYTHON_",
		"JAX_PLATFORMS=", "JAX_ENABLE_X64=", "TF_CPP_", "TF_ENABLE_", "PYTHONHASHSEED=",
		"PYTHONOPTIMIZE=", "TOKENIZERS_PARALLELISM=", "VIRTUAL_ENV=", "CONDA_DEFAULT_ENV=", "CONDA_PREFIX=",
		"LANG=", "LC_ALL=", "TZ=", NULL };
	static const char *const credentials[] = { "TOKEN", "SECRET", "PASSW", "CREDENTIAL", "AUTH", "KEY", NULL };
	size_t n = strcspn(entry, "=");
	if (!begins_with_one(entry, wanted))
		return false;
	for (const char *const *word = credentials; *word; word++) {
		const char *at = strstr(entry, *word);
		if (at && at < entry + n && strncmp(entry, "TOKENIZERS_", 11) != 0)
			return false;
	}
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

static void put_variables(pio_str *json, char *const *envp)
{
	size_t count = 0, kept = 0;
	while (envp[count])
		count++;
	const char **entries = pio_calloc(count + 1, sizeof *entries);
	if (!entries) {
		json->failed = true;
		return;
	}
	for (size_t i = 0; i < count; i++)
		if (is_told(envp[i]) && strchr(envp[i], '='))
			entries[kept++] = envp[i];
	qsort(entries, kept, sizeof *entries, by_text);
	put_name(json, "variables");
	pio_str_putc(json, '{');
	for (size_t i = 0; i < kept; i++) {
		size_t n = strcspn(entries[i], "=");
		pio_str_puts(json, i ? "," : "");
		pio_str_put_json(json, entries[i], n);
		pio_str_putc(json, ':');
		pio_str_put_json(json, entries[i] + n + 1, strlen(entries[i] + n + 1));
	}
	pio_str_putc(json, '}');
	pio_free(entries);
}

void pio_facts_put(pio_str *json, char *const *envp)
{
	char text[HEAD_BYTES];
	struct utsname names;
	put_container(json, envp);
	put_cpu(json);
	if (uname(&names) == 0) {
		snprintf(text, sizeof text, "%s %s %s", names.sysname, names.release, names.machine);
		put_text(json, "kernel", text, strlen(text));
	}
	snprintf(text, sizeof text, "glibc %s", gnu_get_libc_version());
	put_text(json, "libc", text, strlen(text));
	put_limits(json);
	put_memory(json);
	put_value_of(json, "os", head_of(text, "/etc/os-release"), "PRETTY_NAME");
	put_variables(json, envp);
}

void pio_facts_payload(pio_str *payload, unsigned rank, const char *part, const char *host,
                       const char *cwd, const char *json, size_t json_bytes)
{
	char name[256] = "", here[PATH_MAX] = "";
	if (!host)
		host = gethostname(name, sizeof name - 1) == 0 ? name : "";
	if (!cwd)
		cwd = getcwd(here, sizeof here) ? here : "";
	pio_record_put_u32(payload, rank);
	pio_record_put_i64(payload, pio_clock_wall_ns());
	pio_record_put_str(payload, part, strlen(part));
	pio_record_put_str(payload, host, strlen(host));
	pio_record_put_str(payload, cwd, strlen(cwd));
	pio_record_put_str(payload, json, json_bytes);
}
