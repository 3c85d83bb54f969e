/* pioche_sqlite.so: what sql_extend.h describes, for the sqlite3 shell, Python
 * and whatever else opens a store with SQLite 3.38 or newer:
 *
 *   sqlite3 .pioche/pioche.db
 *   sqlite> .load PREFIX/lib/pioche/pioche_sqlite
 *
 * Needs neither pioche nor Lua, and writes nothing. */
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT1

#include "store/sql_extend.h"

/* SQLite derives the name from that of the file. */
__attribute__((visibility("default")))
int sqlite3_piochesqlite_init(sqlite3 *db, char **message, const sqlite3_api_routines *api);

int sqlite3_piochesqlite_init(sqlite3 *db, char **message, const sqlite3_api_routines *api)
{
	SQLITE_EXTENSION_INIT2(api)
	if (sqlite3_libversion_number() < 3038000) {
		*message = sqlite3_mprintf("pioche_sqlite needs SQLite 3.38 or newer, this is %s",
		                           sqlite3_libversion());
		return SQLITE_ERROR;
	}
	return pio_sql_extend(db);
}
