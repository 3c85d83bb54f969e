/* What each rank of 2 nodes with 3 ranks each finds in its environment: all of
 * it, name by name. */
#include <jansson.h>
#include <string.h>

#include "base/str.h"
#include "launch/agent_spec.h"
#include "test.h"

#define ULID "01ARZ3NDEKTSV4RRFFQ69G5FAV"
#define TOKEN "00112233445566778899aabbccddeeff"
#define NODES 2
#define RANKS 3

static json_t *orders(int node)
{
	return json_pack("{s:i, s:s, s:i, s:i, s:i, s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:[s], s:s, s:i,"
	                 " s:i}",
	                 "version", 1, "run", ULID, "attempt", 2, "node", node, "nodes", NODES,
	                 "ranks_per_node", RANKS, "dir", "/d", "cwd", "/d", "store", "/store", "staging",
	                 "/staging", "lib_dir", "/lib", "token", TOKEN, "command", "true",
	                 "master_addr", "10.0.0.1", "master_port", 7001,
	                 "max_restarts", 4);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* The environment of a rank as sorted lines. `own`: that of the agent. */
static char *environment(json_t *json, int local_rank, const char *const *own)
{
	pio_agent_spec spec;
	char **envp, *text = json_dumps(json, 0), **kept = environ;
	size_t count = 0;
	pio_str lines = PIO_STR_INIT;
	json_decref(json);
	check_ok(pio_agent_spec_parse(&spec, text, strlen(text), NULL, &err));
	spec.rendezvous = "@00a3f";
	spec.address = "10.0.0.2";
	free(text);
	environ = (char **)(intptr_t)own;
	check_ok(pio_agent_env(&envp, &spec, local_rank, "/ring", &err));
	environ = kept;
	while (envp[count])
		count++;
	qsort(envp, count, sizeof *envp, by_text);
	for (size_t i = 0; i < count; i++)
		pio_str_printf(&lines, "%s\n", envp[i]);
	pio_agent_env_free(envp);
	pio_agent_spec_fini(&spec);
	return pio_str_take(&lines);
}

static void every_variable_of_every_rank(void **state)
{
	(void)state;
	const char *const nothing[] = { NULL };
	for (int rank = 0; rank < NODES * RANKS; rank++) {
		int node = rank / RANKS, local = rank % RANKS;
		pio_str expected = PIO_STR_INIT;
		pio_str_printf(&expected, "CROSS_RANK=%d\nCROSS_SIZE=2\nGROUP_RANK=%d\nGROUP_WORLD_SIZE=2\n"
			"JAX_COORDINATOR_ADDRESS=10.0.0.1:7001\nJAX_NUM_PROCESSES=6\nJAX_PROCESS_ID=%d\n"
			"LD_LIBRARY_PATH=/lib\nLOCAL_RANK=%d\nLOCAL_SIZE=3\nLOCAL_WORLD_SIZE=3\n"
			"MASTER_ADDR=10.0.0.1\nMASTER_PORT=7001\nNODE_RANK=%d\nOMP_NUM_THREADS=1\n"
			"PIOCHE_ADDRESS=10.0.0.2\nPIOCHE_ATTEMPT=2\nPIOCHE_DIR=/d\nPIOCHE_LIB=/lib/libpioche.so\n"
			"PIOCHE_RENDEZVOUS=@00a3f\nPIOCHE_RING=/ring\nPIOCHE_RUN=" ULID "\n"
			"PIOCHE_STAGING=/staging\nPIOCHE_STORE=/store\nPIOCHE_TOKEN=" TOKEN "\n"
			"PYTHONPATH=/lib/pioche\nRANK=%d\nROLE_NAME=default\nROLE_RANK=%d\nROLE_WORLD_SIZE=6\n"
			"TORCHELASTIC_MAX_RESTARTS=4\nTORCHELASTIC_RESTART_COUNT=1\n"
			"TORCHELASTIC_RUN_ID=" ULID "\nTORCHELASTIC_USE_AGENT_STORE=False\n"
			"TORCH_NCCL_ASYNC_ERROR_HANDLING=1\nWORLD_SIZE=6\n",
			node, node, rank, local, node, rank, rank);
		char *found = environment(orders(node), local, nothing);
		assert_string_equal(found, expected.data);
		free(found);
		pio_str_fini(&expected);
	}
}

static void expect(const char *environment_text, const char *lines)
{
	pio_str whole = PIO_STR_INIT, line = PIO_STR_INIT;
	pio_str_printf(&whole, "\n%s", environment_text);
	for (const char *at = lines; *at;) {
		size_t n = strcspn(at, "\n") + 1;
		pio_str_clear(&line);
		pio_str_putc(&line, '\n');
		pio_str_append(&line, at, n);
		if (!strstr(whole.data, line.data))
			fail_msg("%.*s: not in%s", (int)n - 1, at, whole.data);
		at += n;
	}
	pio_str_fini(&whole);
	pio_str_fini(&line);
}

/* What Slurm and the scheduler of GPUs say is the agent's, unchanged; what is
 * set already is kept where torchrun keeps it. */
static void what_the_agent_has_goes_through(void **state)
{
	(void)state;
	const char *const own[] = { "SLURM_PROCID=1", "SLURM_JOB_ID=77", "SLURM_LOCALID=0",
	                            "CUDA_VISIBLE_DEVICES=4,5,6", "OMP_NUM_THREADS=8", "RANK=99",
	                            "TORCH_NCCL_ASYNC_ERROR_HANDLING=3", "NCCL_DEBUG=WARN", "PATH=/bin",
	                            "LD_LIBRARY_PATH=/cuda", "PIOCHE_RESUME=/of/an/outer/run", NULL };
	json_t *json = orders(1);
	json_object_set_new(json, "env", json_pack("{s:s, s:s}", "NCCL_DEBUG", "INFO", "MINE", "a b"));
	char *found = environment(json, 2, own);
	expect(found, "SLURM_PROCID=1\nSLURM_JOB_ID=77\nSLURM_LOCALID=0\nCUDA_VISIBLE_DEVICES=4,5,6\n"
	       "OMP_NUM_THREADS=8\nRANK=5\nTORCH_NCCL_ASYNC_ERROR_HANDLING=3\nNCCL_DEBUG=INFO\nMINE=a b\n"
	       "PATH=/bin\nLD_LIBRARY_PATH=/lib:/cuda\n");
	assert_null(strstr(found, "PIOCHE_RESUME"));
	assert_null(strstr(found, "OMPI_"));
	free(found);
}

static void threads_are_the_programs_where_a_rank_has_the_node(void **state)
{
	(void)state;
	const char *const nothing[] = { NULL };
	json_t *json = orders(0);
	json_object_set_new(json, "ranks_per_node", json_integer(1));
	char *found = environment(json, 0, nothing);
	assert_null(strstr(found, "OMP_NUM_THREADS"));
	free(found);
}

/* The numbers that mpirun, srun --mpi or torchrun gave the agent are those of
 * agents. Ours come when they are asked for. */
static void mpi_is_told_on_request_alone(void **state)
{
	(void)state;
	const char *const own[] = { "OMPI_COMM_WORLD_RANK=1", "PMIX_RANK=1", "PMI_FD=7", "MPI_LOCALRANKID=0",
	                            "OMPI_MCA_btl=tcp", "TORCHELASTIC_ERROR_FILE=/tmp/outer", NULL };
	char *found = environment(orders(1), 1, own);
	expect(found, "OMPI_MCA_btl=tcp\n");
	assert_null(strstr(found, "OMPI_COMM"));
	assert_null(strstr(found, "PMI"));
	assert_null(strstr(found, "MPI_LOCAL"));
	assert_null(strstr(found, "ERROR_FILE"));
	free(found);
	json_t *json = orders(1);
	json_object_set_new(json, "mpi_env", json_true());
	found = environment(json, 1, own);
	expect(found, "OMPI_COMM_WORLD_RANK=4\nOMPI_COMM_WORLD_SIZE=6\nOMPI_COMM_WORLD_LOCAL_RANK=1\n"
	       "OMPI_COMM_WORLD_LOCAL_SIZE=3\nOMPI_COMM_WORLD_NODE_RANK=1\n");
	free(found);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_variable_of_every_rank),
		cmocka_unit_test(what_the_agent_has_goes_through),
		cmocka_unit_test(threads_are_the_programs_where_a_rank_has_the_node),
		cmocka_unit_test(mpi_is_told_on_request_alone),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
