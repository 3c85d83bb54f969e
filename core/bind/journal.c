/* require "pioche.core.journal": what a journal holds, record by record. */
#include <lauxlib.h>
#include <string.h>

#include "bind/bind.h"
#include "store/archive.h"

#define READER "pioche.journal"

/* How to read a payload, in order: i i64, u u32, U u64, c u8 as a character,
 * s text, b bytes of which only the number is told. */
typedef struct field {
	const char *name;
	char form;
} field;

static const struct form {
	const char *name;
	field fields[12];
} forms[] = {
	[PIO_RECORD_KEY] = { "key", { { "rank", 'u' }, { "number", 'u' }, { "key", 's' } } },
	[PIO_RECORD_POINTS] = { "points", { { "rank", 'u' } } },
	[PIO_RECORD_TEXT] = { "text", { { "rank", 'u' }, { "time_ns", 'i' }, { "step", 'i' }, { "key", 's' },
	                                { "text", 's' } } },
	[PIO_RECORD_FACT] = { "fact", { { "rank", 'u' }, { "time_ns", 'i' }, { "kind", 'c' },
	                                { "name", 's' }, { "json", 's' } } },
	[PIO_RECORD_EVENT] = { "event", { { "rank", 'u' }, { "time_ns", 'i' }, { "kind", 's' },
	                                  { "message", 's' } } },
	[PIO_RECORD_CHECKPOINT] = { "checkpoint", { { "rank", 'u' }, { "time_ns", 'i' }, { "step", 'i' },
	                            { "writers", 'u' }, { "stall_ns", 'i' }, { "fsyncs", 'u' },
	                            { "files", 'u' } } },
	[PIO_RECORD_HEARTBEAT] = { "heartbeat", { { "time_ns", 'i' } } },
	[PIO_RECORD_LOSS] = { "stall", { { "rank", 'u' }, { "time_ns", 'i' }, { "stalls", 'U' },
	                                 { "stalled_ns", 'U' } } },
	[PIO_RECORD_RUN] = { "run", { { "time_ns", 'i' }, { "json", 's' } } },
	[PIO_RECORD_EXIT] = { "exit", { { "time_ns", 'i' }, { "json", 's' } } },
	[PIO_RECORD_MEDIA] = { "media", { { "rank", 'u' }, { "time_ns", 'i' }, { "step", 'i' },
	                       { "kind", 'c' }, { "key", 's' }, { "name", 's' }, { "mime", 's' },
	                       { "bytes", 'U' }, { "sha256", 's' }, { "path", 's' }, { "data", 'b' } } },
	[PIO_RECORD_ENVIRONMENT] = { "environment", { { "rank", 'u' }, { "time_ns", 'i' }, { "part", 's' },
	                             { "host", 's' }, { "cwd", 's' }, { "json", 's' } } },
};

static pio_journal_reader **box(lua_State *L)
{
	return luaL_checkudata(L, 1, READER);
}

static pio_journal_reader *check(lua_State *L)
{
	pio_journal_reader *reader = *box(L);
	luaL_argcheck(L, reader, 1, "the journal is closed");
	return reader;
}

static int reader_close(lua_State *L)
{
	pio_journal_reader **reader = box(L);
	pio_journal_reader_close(*reader);
	*reader = NULL;
	return 0;
}

static int reader_tostring(lua_State *L)
{
	lua_pushstring(L, *box(L) ? "journal" : "journal (closed)");
	return 1;
}

/* open(path) -> reader, { run, attempt, node, created_ns }; path is of one
 * segment, compressed or not. */
static int journal_open(lua_State *L)
{
	const char *path = luaL_checkstring(L, 1);
	pio_err err = PIO_ERR_INIT;
	pio_journal_header header;
	char ulid[PIO_ULID_CHARS + 1];
	pio_journal_reader **reader = lua_newuserdatauv(L, sizeof *reader, 0);
	*reader = NULL;
	luaL_setmetatable(L, READER);
	int rc = pio_archive_open(reader, &header, path, &err);
	if (!rc && !header.created_ns)
		rc = pio_fail(&err, PIO_ECORRUPT, "%s is shorter than the header of a journal: nothing was written"
		              " to it yet, or it is none", path);
	if (rc)
		return pio_bind_fail(L, &err);
	pio_ulid_format(&header.run, ulid);
	lua_createtable(L, 0, 4);
	lua_pushstring(L, ulid);
	lua_setfield(L, -2, "run");
	lua_pushinteger(L, header.attempt);
	lua_setfield(L, -2, "attempt");
	lua_pushinteger(L, header.node);
	lua_setfield(L, -2, "node");
	lua_pushinteger(L, header.created_ns);
	lua_setfield(L, -2, "created_ns");
	return 2;
}

static void push_field(lua_State *L, pio_cursor *cursor, char form)
{
	size_t n;
	const char *bytes;
	switch (form) {
	case 'i':
		lua_pushinteger(L, pio_cursor_i64(cursor));
		break;
	case 'u':
		lua_pushinteger(L, pio_cursor_u32(cursor));
		break;
	case 'U':
		lua_pushinteger(L, pio_cursor_i64(cursor));
		break;
	case 'c':
		lua_pushfstring(L, "%c", pio_cursor_u8(cursor));
		break;
	default:
		bytes = pio_cursor_str(cursor, &n);
		if (form == 'b')
			lua_pushinteger(L, (lua_Integer)n);
		else
			lua_pushlstring(L, bytes, n);
	}
}

/* The columns of a POINTS record, behind its rank, as fields of the table on top. */
static void set_points(lua_State *L, pio_cursor *cursor)
{
	static const char *const names[] = { "time_ns", "step", "number", "value" };
	uint32_t count = pio_cursor_u32(cursor);
	if (count > (size_t)(cursor->end - cursor->at) / sizeof(pio_journal_point))
		cursor->bad = 1;
	if (cursor->bad)
		return;
	int record = lua_gettop(L);
	for (int i = 0; i < 4; i++) {
		lua_createtable(L, (int)count, 0);
		lua_pushvalue(L, -1);
		lua_setfield(L, record, names[i]);
	}
	for (uint32_t i = 0; i < count; i++) {
		pio_journal_point p;
		double value;
		memcpy(&p, cursor->at + i * sizeof p, sizeof p);
		memcpy(&value, &p.value_bits, sizeof value);
		lua_pushinteger(L, p.time_ns);
		lua_rawseti(L, record + 1, (lua_Integer)i + 1);
		lua_pushinteger(L, p.step);
		lua_rawseti(L, record + 2, (lua_Integer)i + 1);
		lua_pushinteger(L, p.key & ~PIO_POINT_INTEGER);
		lua_rawseti(L, record + 3, (lua_Integer)i + 1);
		if (p.key & PIO_POINT_INTEGER)
			lua_pushinteger(L, (lua_Integer)p.value_bits);
		else
			lua_pushnumber(L, value);
		lua_rawseti(L, record + 4, (lua_Integer)i + 1);
	}
	lua_settop(L, record);
}

/* next() -> { record = "text", offset, ... } as `fields` names them; a POINTS
 * record has arrays; `damaged` is set where a payload is too short. false at
 * the end, and whether bytes stand behind it. */
static int reader_next(lua_State *L)
{
	pio_journal_reader *reader = check(L);
	pio_err err = PIO_ERR_INIT;
	pio_record record;
	int rc = pio_journal_next(reader, &record, &err);
	if (rc < 0)
		return pio_bind_fail(L, &err);
	if (rc == 0) {
		lua_pushboolean(L, 0);
		lua_pushboolean(L, pio_journal_has_rest(reader));
		return 2;
	}
	bool known = (size_t)record.type < sizeof forms / sizeof forms[0] && forms[record.type].name;
	const struct form *form = known ? &forms[record.type] : NULL;
	pio_cursor cursor = { record.payload, record.payload + record.size_bytes, 0 };
	lua_createtable(L, 0, 10);
	lua_pushinteger(L, record.end_offset - (int64_t)record.size_bytes - 9);
	lua_setfield(L, -2, "offset");
	if (form)
		lua_pushstring(L, form->name);
	else
		lua_pushfstring(L, "type %d", (int)record.type);
	lua_setfield(L, -2, "record");
	for (const field *f = form ? form->fields : NULL; f && f->name; f++) {
		push_field(L, &cursor, f->form);
		lua_setfield(L, -2, f->name);
	}
	if (record.type == PIO_RECORD_POINTS)
		set_points(L, &cursor);
	lua_pushboolean(L, cursor.bad);
	lua_setfield(L, -2, "damaged");
	return 1;
}

/* fields: by the name of a record, the names of its fields in their order. */
static void push_fields(lua_State *L)
{
	lua_newtable(L);
	for (size_t t = 0; t < sizeof forms / sizeof forms[0]; t++) {
		if (!forms[t].name)
			continue;
		lua_newtable(L);
		for (lua_Integer i = 0; forms[t].fields[i].name; i++) {
			lua_pushstring(L, forms[t].fields[i].name);
			lua_rawseti(L, -2, i + 1);
		}
		lua_setfield(L, -2, forms[t].name);
	}
}

int pio_bind_open_journal(lua_State *L)
{
	static const luaL_Reg methods[] = {
		{ "next", reader_next }, { "close", reader_close }, { NULL, NULL },
	};
	static const luaL_Reg functions[] = { { "open", journal_open }, { NULL, NULL } };
	pio_bind_type(L, READER, methods, reader_close, reader_tostring);
	luaL_newlib(L, functions);
	push_fields(L);
	lua_setfield(L, -2, "fields");
	return 1;
}
