#include "store/reader_table.h"

int pio_reader_table_connect(sqlite3 *db, void *declaration, int argc, const char *const *argv,
                             sqlite3_vtab **out, char **message)
{
	(void)argc;
	(void)argv;
	(void)message;
	int rc = sqlite3_declare_vtab(db, declaration);
	pio_reader_table *table = rc == SQLITE_OK ? sqlite3_malloc(sizeof *table) : NULL;
	if (!table)
		return rc == SQLITE_OK ? SQLITE_NOMEM : rc;
	*table = (pio_reader_table){ 0 };
	pio_reader_init(&table->reader, db);
	sqlite3_vtab_config(db, SQLITE_VTAB_INNOCUOUS);
	*out = &table->base;
	return SQLITE_OK;
}

int pio_reader_table_disconnect(sqlite3_vtab *table)
{
	pio_reader_fini(&((pio_reader_table *)table)->reader);
	sqlite3_free(table);
	return SQLITE_OK;
}
