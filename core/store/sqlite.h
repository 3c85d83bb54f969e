/* sqlite.h: SQLite as the reading half of this room sees it.
 *
 * The same sources are compiled twice: into pioche, linked with libsqlite3,
 * and with PIO_SQLITE_EXTENSION into pioche_sqlite.so, which calls SQLite only
 * through the table of functions that its host hands over. The host may have
 * SQLite compiled in; a second copy in its process would not see the first
 * one's file locks. */
#ifndef PIO_STORE_SQLITE_H
#define PIO_STORE_SQLITE_H

#ifdef PIO_SQLITE_EXTENSION
#include <sqlite3ext.h>
SQLITE_EXTENSION_INIT3 /* declares sqlite3_api; extension.c defines it */
#else
#include <sqlite3.h>
#endif

#endif
