/* reader_table.h: what a virtual table that reads points is made of; for
 * point.c and lod.c alone. */
#ifndef PIO_STORE_READER_TABLE_H
#define PIO_STORE_READER_TABLE_H

#include "store/reader.h"
#include "store/sqlite.h"

typedef struct pio_reader_table {
	sqlite3_vtab base;
	pio_reader reader;
} pio_reader_table;

/* xConnect and xDisconnect. `declaration`, what sqlite3_create_module got as its
 * client data, is the table's CREATE TABLE statement. */
int pio_reader_table_connect(sqlite3 *db, void *declaration, int argc, const char *const *argv,
                             sqlite3_vtab **table, char **message);
int pio_reader_table_disconnect(sqlite3_vtab *table);

#endif
