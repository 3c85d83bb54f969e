/* What pio_nccl decides by itself; what it does with NCCL is tested by ranks, in
 * tests/cli/test_nccl.py. */
#include <string.h>

#include "client/comm_nccl.h"
#include "test.h"

/* The rule of NCCL's user guide ("using multiple ncclUniqueIds"): does a rank of a
 * world make one of the ids? */
static bool has_root(int rank, int world, int ids)
{
	int more = world % ids, each = world / ids, limit = more * (each + 1);
	return rank < limit ? rank % (each + 1) == 0 : (rank - limit) % each == 0;
}

static void ids_are_made_where_nccl_looks_for_their_roots(void **state)
{
	(void)state;
	for (int world = 1; world <= 1100; world++)
		for (int ids = 1; ids <= world && ids <= 9; ids++) {
			int index = 0;
			for (int rank = 0; rank < world; rank++)
				if (has_root(rank, world, ids))
					assert_int_equal(pio_nccl_id_maker(world, ids, index++), rank);
			assert_int_equal(index, ids);
		}
	assert_int_equal(pio_nccl_id_maker(1016, 4, 3), 762);
}

static void misuse_is_refused_and_nothing_is_harmless(void **state)
{
	pio_comm *comm;
	pio_nccl *nccl;
	(void)state;
	assert_int_equal(pio_comm_init(&comm, NULL, 1000), 0);
	assert_int_equal(pio_nccl_init(&nccl, NULL, 1000), -PIO_EINVAL);
	assert_string_equal(pio_error(), "pio_nccl_init: the pio_comm is NULL");
	assert_int_equal(pio_nccl_init(NULL, comm, 1000), -PIO_EINVAL);
	assert_int_equal(pio_nccl_init(&nccl, comm, 0), -PIO_EINVAL);
	assert_string_equal(pio_error(), "timeout of 0 ms: at least 1 expected");
	assert_null(nccl);
	assert_int_equal(pio_nccl_split(&nccl, NULL, 0, 0, 1000), -PIO_EINVAL);
	assert_int_equal(pio_nccl_allreduce(NULL, NULL, NULL, 0, PIO_F32, NULL), 0);
	assert_int_equal(pio_nccl_broadcast(NULL, NULL, 0, PIO_F32, 0, NULL), 0);
	assert_int_equal(pio_nccl_wait(NULL, NULL, 1000), 0);
	assert_int_equal(PIO_NCCL(NULL, 3), 0);
	assert_null(pio_nccl_handle(NULL));
	pio_nccl_close(&nccl, NULL);
	pio_nccl_close(NULL, NULL);
	pio_comm_close(&comm, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_made_where_nccl_looks_for_their_roots),
		cmocka_unit_test(misuse_is_refused_and_nothing_is_harmless),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
