/* require "pioche.core.sys": clock, terminal, machine; files are in sys_file.c. */
#include <errno.h>
#include <lauxlib.h>
#include <limits.h>
#include <poll.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/ulid.h"
#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/fs.h"
#include "sys/hash.h"
#include "sys/proc.h"

/* ---- hashing and names -------------------------------------------------------------- */

static int sys_sha256(lua_State *L)
{
	size_t len;
	const char *text = luaL_checklstring(L, 1, &len);
	char hex[PIO_SHA256_HEX + 1];
	pio_err err = PIO_ERR_INIT;
	if (pio_sha256_bytes(text, len, hex, &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, hex);
	return 1;
}

static int sys_sha256_file(lua_State *L)
{
	char hex[PIO_SHA256_HEX + 1];
	int64_t size;
	pio_err err = PIO_ERR_INIT;
	if (pio_sha256_file(luaL_checkstring(L, 1), hex, &size, &err))
		return pio_bind_fail(L, &err);
	lua_pushstring(L, hex);
	lua_pushinteger(L, size);
	return 2;
}

static int sys_ulid(lua_State *L)
{
	pio_ulid ulid;
	char text[PIO_ULID_CHARS + 1];
	pio_ulid_new(&ulid);
	pio_ulid_format(&ulid, text);
	lua_pushstring(L, text);
	return 1;
}

/* ---- clock, terminal, machine --------------------------------------------------------- */

static int sys_now_ns(lua_State *L)
{
	lua_pushinteger(L, pio_clock_wall_ns());
	return 1;
}

static int sys_mono_ns(lua_State *L)
{
	lua_pushinteger(L, pio_clock_mono_ns());
	return 1;
}

static int sys_sleep_ms(lua_State *L)
{
	pio_clock_sleep_ms(luaL_checkinteger(L, 1));
	return 0;
}

static int sys_format_time(lua_State *L)
{
	char text[PIO_CLOCK_TEXT_BYTES];
	pio_clock_format(luaL_checkinteger(L, 1), text);
	lua_pushstring(L, text);
	return 1;
}

/* write(fd, text): a reader of stdout that went away ends the process quietly,
 * with the status that a shell shows for SIGPIPE; one of stderr is no reason to
 * stop a sweep. */
static int sys_write(lua_State *L)
{
	int fd = (int)luaL_checkinteger(L, 1);
	size_t len, at = 0;
	const char *text = luaL_checklstring(L, 2, &len);
	while (at < len) {
		ssize_t n = write(fd, text + at, len - at);
		if (n >= 0) {
			at += (size_t)n;
		} else if (errno == EAGAIN) {
			struct pollfd ready = { fd, POLLOUT, 0 };
			poll(&ready, 1, -1);
		} else if (errno == EPIPE && fd == 1) {
			_exit(141);
		} else if (errno == EPIPE) {
			break;
		} else if (errno != EINTR) {
			pio_err err = PIO_ERR_INIT;
			pio_fail_errno(&err, errno, "writing to %s", fd == 1 ? "stdout" : "stderr");
			return pio_bind_fail(L, &err);
		}
	}
	lua_pushboolean(L, 1);
	return 1;
}

static int sys_isatty(lua_State *L)
{
	lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
	return 1;
}

static int sys_term_size(lua_State *L)
{
	struct winsize size = { 0, 0, 0, 0 };
	const char *columns = getenv("COLUMNS");
	if (ioctl(1, TIOCGWINSZ, &size) && ioctl(2, TIOCGWINSZ, &size))
		size.ws_col = 0;
	long forced = columns ? strtol(columns, NULL, 10) : 0;
	lua_pushinteger(L, forced > 0 && forced < 10000 ? forced : size.ws_col ? size.ws_col : 80);
	lua_pushinteger(L, size.ws_row ? size.ws_row : 24);
	return 2;
}

static int sys_getenv(lua_State *L)
{
	lua_pushstring(L, getenv(luaL_checkstring(L, 1)));
	return 1;
}

static int sys_cwd(lua_State *L)
{
	char path[PATH_MAX];
	if (!getcwd(path, sizeof path)) {
		pio_err err = PIO_ERR_INIT;
		pio_fail_errno(&err, errno, "the working directory");
		return pio_bind_fail(L, &err);
	}
	lua_pushstring(L, path);
	return 1;
}

static int sys_hostname(lua_State *L)
{
	char name[HOST_NAME_MAX + 1] = "";
	gethostname(name, sizeof name - 1);
	lua_pushstring(L, name);
	return 1;
}

static int sys_cpu_count(lua_State *L)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);
	lua_pushinteger(L, count > 0 ? count : 1);
	return 1;
}

static int sys_pid(lua_State *L)
{
	lua_pushinteger(L, getpid());
	return 1;
}

static int sys_user(lua_State *L)
{
	const struct passwd *user = getpwuid(getuid());
	if (user)
		lua_pushstring(L, user->pw_name);
	else
		lua_pushfstring(L, "%d", (int)getuid());
	return 1;
}

static int sys_executable(lua_State *L)
{
	char path[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
	if (len < 0)
		return luaL_error(L, "/proc/self/exe: %s", strerror(errno));
	lua_pushlstring(L, path, (size_t)len);
	return 1;
}

/* Folder of libpioche.so: beside the executable's `lib` in a build tree, or in
 * the prefix's lib when installed. */
static int sys_lib_dir(lua_State *L)
{
	static const char *const places[] = { "lib", "../lib" };
	char path[PATH_MAX], whole[PATH_MAX];
	ssize_t len = readlink("/proc/self/exe", path, sizeof path - 1);
	if (len > 0) {
		path[len] = 0;
		*strrchr(path, '/') = 0;
		for (size_t i = 0; i < 2; i++) {
			const char *folder = lua_pushfstring(L, "%s/%s", path, places[i]);
			const char *library = lua_pushfstring(L, "%s/libpioche.so", folder);
			if (pio_fs_type(library) == PIO_FS_FILE && realpath(folder, whole)) {
				lua_pushstring(L, whole);
				return 1;
			}
		}
	}
	lua_pushnil(L);
	lua_pushliteral(L, "libpioche.so stands neither beside this program in lib/ nor in ../lib/");
	lua_pushliteral(L, "not_found");
	return 3;
}

static int sys_signal_name(lua_State *L)
{
	lua_pushstring(L, pio_proc_signal_name((int)luaL_checkinteger(L, 1)));
	return 1;
}

static int sys_version(lua_State *L)
{
	lua_pushliteral(L, PIO_VERSION);
	return 1;
}

int pio_bind_open_sys(lua_State *L)
{
	static const luaL_Reg functions[] = {
		{ "sha256", sys_sha256 },
		{ "sha256_file", sys_sha256_file }, { "ulid", sys_ulid }, { "now_ns", sys_now_ns },
		{ "mono_ns", sys_mono_ns }, { "sleep_ms", sys_sleep_ms },
		{ "format_time", sys_format_time }, { "pipe_into", pio_bind_sys_pipe_into },
		{ "pipe_from", pio_bind_sys_pipe_from }, { "write", sys_write }, { "isatty", sys_isatty },
		{ "term_size", sys_term_size }, { "getenv", sys_getenv }, { "cwd", sys_cwd },
		{ "hostname", sys_hostname }, { "cpu_count", sys_cpu_count }, { "pid", sys_pid },
		{ "user", sys_user }, { "executable", sys_executable }, { "lib_dir", sys_lib_dir },
		{ "signal_name", sys_signal_name }, { "version", sys_version },
		{ "run", pio_bind_sys_run }, { "regex", pio_bind_sys_regex },
		{ NULL, NULL },
	};
	luaL_newlib(L, functions);
	luaL_setfuncs(L, pio_bind_sys_file_functions, 0);
	luaL_setfuncs(L, pio_bind_sys_place_functions, 0);
	luaL_setfuncs(L, pio_bind_sys_process_functions, 0);
	luaL_setfuncs(L, pio_bind_sys_tty_functions, 0);
	return 1;
}
