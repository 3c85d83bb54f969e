/* What attempts ran on, from the journal into the store. */
#include "store_fixture.h"

#include <string.h>

#include "client/facts.h"

static void put_environment(pio_journal_writer *writer, const char *part, const char *json, size_t n)
{
	pio_str payload = PIO_STR_INIT;
	pio_facts_payload(&payload, 0, part, "dgx-001", "/code", json, n);
	put_record(writer, PIO_RECORD_ENVIRONMENT, &payload);
}

static void equal_documents_are_kept_once(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *writer = journal_up(&f, 1);
	const char *const told[] = { "{\"b\":1,\"a\":\"x\"}", "{ \"a\" : \"x\", \"b\" : 1 }" };
	put_environment(writer, "machine", told[0], strlen(told[0]));
	put_environment(writer, "python", told[1], strlen(told[1]));
	put_environment(writer, "python", told[1], strlen(told[1])); /* its newest word counts */
	journal_down(writer);
	fold(&f, true);
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM environment"), 1);
	assert_string_equal(sql_text(f.store, "SELECT document FROM environment"), "{\"a\":\"x\",\"b\":1}");
	assert_string_equal(sql_text(f.store, "SELECT group_concat(part || ' ' || node || ' ' || host || ' ' || cwd,"
	                             " ', ') FROM attempt_environment"),
	                    "machine 0 dgx-001 /code, python 0 dgx-001 /code");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event"), 0);
	store_down(&f);
}

/* What comes from outside is passed over with a word, and the rest is folded. */
static void nonsense_is_passed_over(void **unused)
{
	(void)unused;
	fixture f = store_up_run();
	pio_journal_writer *writer = journal_up(&f, 1);
	pio_str large = PIO_STR_INIT, cut = PIO_STR_INIT;
	pio_str_puts(&large, "{\"a\":\"");
	while (large.len <= 1u << 20)
		pio_str_puts(&large, "xxxxxxxxxxxxxxxx");
	pio_str_puts(&large, "\"}");
	put_environment(writer, "machine", "[1]", 3);
	put_environment(writer, "machine", "{\"a\"", 4);
	put_environment(writer, "", "{}", 2);
	put_environment(writer, "machine", large.data, large.len);
	pio_record_put_u32(&cut, 0);
	pio_record_put_i64(&cut, 0);
	pio_record_put_u32(&cut, 1000);
	put_record(writer, PIO_RECORD_ENVIRONMENT, &cut);
	put_environment(writer, "machine", "{\"good\":true}", 13);
	journal_down(writer);
	fold(&f, true);
	assert_string_equal(sql_text(f.store, "SELECT document FROM environment"), "{\"good\":true}");
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM event WHERE kind = 'journal'"), 5);
	assert_string_equal(sql_text(f.store, "SELECT group_concat(substr(message, instr(message, ': ') + 2), '|')"
	                             " FROM event WHERE message LIKE '%environment%' AND message LIKE '%bytes%'"),
	                    "rank 0: environment \"machine\" has 1048584 bytes, at most 1048576 are kept; passed over");
	pio_str_fini(&large);
	store_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(equal_documents_are_kept_once),
		cmocka_unit_test(nonsense_is_passed_over),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
