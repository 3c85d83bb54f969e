/* require "pioche.core.sys": the terminal as a screen (sys/tty.h). */
#include <lauxlib.h>

#include "bind/bind.h"
#include "bind/sys.h"
#include "sys/tty.h"

static int sys_tty_enter(lua_State *L)
{
	pio_err err = PIO_ERR_INIT;
	if (pio_tty_enter(&err))
		return pio_bind_fail(L, &err);
	lua_pushboolean(L, 1);
	return 1;
}

static int sys_tty_leave(lua_State *L)
{
	(void)L;
	pio_tty_leave();
	return 0;
}

/* tty_read(ms) -> bytes of keys, "" when there are none; and "gone", "resumed",
 * "resized" or nothing */
static int sys_tty_read(lua_State *L)
{
	char bytes[256];
	pio_tty_news news;
	pio_tty_read(&news, bytes, sizeof bytes, (int)luaL_checkinteger(L, 1));
	lua_pushlstring(L, bytes, news.count);
	if (!news.gone && !news.resumed && !news.resized)
		return 1;
	lua_pushstring(L, news.gone ? "gone" : news.resumed ? "resumed" : "resized");
	return 2;
}

/* tty_size() -> columns, rows */
static int sys_tty_size(lua_State *L)
{
	int columns, rows;
	pio_tty_size(&columns, &rows);
	lua_pushinteger(L, columns);
	lua_pushinteger(L, rows);
	return 2;
}

const luaL_Reg pio_bind_sys_tty_functions[] = {
	{ "tty_enter", sys_tty_enter }, { "tty_leave", sys_tty_leave },
	{ "tty_read", sys_tty_read }, { "tty_size", sys_tty_size }, { NULL, NULL },
};
