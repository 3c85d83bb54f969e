#include <string.h>

#include "launch/address.h"
#include "launch/hostlist.h"
#include "test.h"

static void host_lists_are_read(void **state)
{
	(void)state;
	const struct { const char *list; int n; const char *name; } cases[] = {
		{ "dgx-[001-003,007],login", 0, "dgx-001" }, { "dgx-[001-003,007],login", 3, "dgx-007" },
		{ "dgx-[001-003,007],login", 4, "login" }, { "dgx-[001-003,007],login", 5, "" },
		{ "a[1-2]b[08-10]c", 4, "a2b09c" }, { "one", 0, "one" }, { "", 0, "" }, { "a[", 0, "" },
		{ "a[3-1]", 0, "" }, { "a[1-2", 0, "" }, { "a[x]", 0, "" }, { "one", -1, "" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		pio_str name = PIO_STR_INIT;
		assert_int_equal(pio_hostlist_nth(&name, cases[i].list, cases[i].n), cases[i].name[0] != 0);
		assert_string_equal(name.data, cases[i].name);
		pio_str_fini(&name);
	}
}

static void addresses_are_found(void **state)
{
	(void)state;
	char address[PIO_ADDRESS_BYTES];
	pio_err err = PIO_ERR_INIT;
	pio_str interface = PIO_STR_INIT;
	assert_int_equal(pio_address_of_interface(address, "127.0.0.0/8", &err), 0);
	assert_string_equal(address, "127.0.0.1");
	assert_int_equal(pio_address_of_interface(address, "255.0.0.0/8", &err), -PIO_ENOTFOUND);
	assert_int_equal(pio_address_of_interface(address, "10.1.0.0/99", &err), -PIO_EINVAL);
	assert_non_null(strstr(err.message, "\"10.1.0.0/99\" is no range of addresses"));
	assert_true(pio_address_interface(&interface, "127.0.0.1"));
	assert_string_equal(interface.data, "lo");
	pio_str_fini(&interface);
	assert_int_equal(pio_address_towards(address, "127.0.0.1", &err), 0);
	assert_string_equal(address, "127.0.0.1");
	assert_int_not_equal(pio_address_towards(address, "no-such-host.invalid", &err), 0);
}

static void the_choice_is_told_in_words(void **state)
{
	(void)state;
	char address[PIO_ADDRESS_BYTES];
	pio_str why = PIO_STR_INIT;
	pio_address_wish wish = { .interface = "lo", .other_node = "127.0.0.1" };
	check_ok(pio_address_choose(address, &why, &wish, &err));
	assert_string_equal(why.data, "127.0.0.1 (lo): launch.interface is lo");
	pio_str_clear(&why);
	wish.interface = NULL;
	check_ok(pio_address_choose(address, &why, &wish, &err));
	assert_string_equal(why.data, "127.0.0.1 (lo): packets to 127.0.0.1 leave with it");
	pio_str_clear(&why);
	wish = (pio_address_wish){ .other_node = "no-such-host.invalid", .own_name = "localhost" };
	check_ok(pio_address_choose(address, &why, &wish, &err)); /* a loopback is no name for others */
	assert_true(strstr(why.data, "default route") || strstr(why.data, "no route to any other machine"));
	wish.interface = "ib7";
	check_fails(pio_address_choose(address, NULL, &wish, &err), PIO_ENOTFOUND, "lo 127.0.0.1");
	pio_str_fini(&why);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(host_lists_are_read), cmocka_unit_test(addresses_are_found),
		cmocka_unit_test(the_choice_is_told_in_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
