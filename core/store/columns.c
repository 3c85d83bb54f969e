#include "store/columns.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "base/str.h"

/* The number itself, or where in `texts` a text is: its length, then its bytes. */
union cell {
	int64_t whole;
	double real;
	size_t at;
};

struct pio_columns {
	int count;
	size_t rows, cell_room, type_room;
	union cell *cells;  /* row by row */
	uint8_t *types;
	pio_str texts;
};

int pio_columns_new(pio_columns **out, int count, pio_err *err)
{
	pio_columns *columns = pio_calloc(1, sizeof *columns);
	if (!columns)
		return pio_fail(err, PIO_ENOMEM, "out of memory for %d columns", count);
	columns->count = count;
	columns->texts = (pio_str)PIO_STR_INIT;
	*out = columns;
	return 0;
}

void pio_columns_free(pio_columns *columns)
{
	if (!columns)
		return;
	pio_free(columns->cells);
	pio_free(columns->types);
	pio_str_fini(&columns->texts);
	pio_free(columns);
}

static union cell text_add(pio_columns *columns, sqlite3_stmt *statement, int column)
{
	union cell cell = { .at = columns->texts.len };
	const void *bytes = sqlite3_column_blob(statement, column);
	uint32_t length = (uint32_t)sqlite3_column_bytes(statement, column);
	pio_str_append(&columns->texts, &length, sizeof length);
	if (length)
		pio_str_append(&columns->texts, bytes, length);
	return cell;
}

static int row_room(pio_columns *columns, pio_err *err)
{
	size_t last = (columns->rows + 1) * (size_t)columns->count - 1;
	int rc = 0;
	while (!rc && columns->cell_room <= last)
		rc = pio_grow(&columns->cells, &columns->cell_room, columns->cell_room, "values", err);
	while (!rc && columns->type_room <= last)
		rc = pio_grow(&columns->types, &columns->type_room, columns->type_room, "values", err);
	return rc;
}

int pio_columns_add(pio_columns *columns, sqlite3_stmt *statement, pio_err *err)
{
	assert(sqlite3_column_count(statement) == columns->count);
	int rc = row_room(columns, err);
	if (rc)
		return rc;
	size_t first = columns->rows * (size_t)columns->count, texts = columns->texts.len;
	for (int i = 0; i < columns->count; i++) {
		int type = sqlite3_column_type(statement, i);
		union cell *cell = &columns->cells[first + (size_t)i];
		*cell = (union cell){ .whole = 0 };
		if (type == SQLITE_INTEGER)
			cell->whole = sqlite3_column_int64(statement, i);
		else if (type == SQLITE_FLOAT)
			cell->real = sqlite3_column_double(statement, i);
		else if (type != SQLITE_NULL)
			*cell = text_add(columns, statement, i);
		columns->types[first + (size_t)i] = (uint8_t)(type == SQLITE_BLOB ? SQLITE_TEXT : type);
	}
	if ((rc = pio_str_check(&columns->texts, err))) {
		columns->texts.len = texts;
		columns->texts.failed = false;
		return rc;
	}
	columns->rows++;
	return 0;
}

size_t pio_columns_rows(const pio_columns *columns)
{
	return columns->rows;
}

size_t pio_columns_bytes(const pio_columns *columns)
{
	return sizeof *columns + columns->cell_room * sizeof *columns->cells + columns->type_room +
	       columns->texts.capacity;
}

pio_column_value pio_columns_get(const pio_columns *columns, size_t row, int column)
{
	assert(row < columns->rows && column >= 0 && column < columns->count);
	size_t place = row * (size_t)columns->count + (size_t)column;
	union cell cell = columns->cells[place];
	pio_column_value value = { .type = columns->types[place] };
	uint32_t length;
	switch (value.type) {
	case SQLITE_INTEGER:
		value.whole = cell.whole;
		break;
	case SQLITE_FLOAT:
		value.real = cell.real;
		break;
	case SQLITE_TEXT:
		memcpy(&length, columns->texts.data + cell.at, sizeof length);
		value.text = columns->texts.data + cell.at + sizeof length;
		value.bytes = length;
	}
	return value;
}
