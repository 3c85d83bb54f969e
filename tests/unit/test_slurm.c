/* What is said to Slurm, word by word, and what its answers mean. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "launch/slurm.h"

static pio_err err;

static pio_slurm_job job_of(const char *launch, json_t **json)
{
	pio_slurm_job job = { .name = "gpt-3", .key = "pioche:01ARZ3NDEKTSV4RRFFQ69G5FAV:2:deadbeef",
	                      .dir = "/store/it's 100% \"mine\"/2", .executable = "/opt/pioche", .warn_s = 130 };
	*json = json_loads(launch, 0, NULL);
	assert_non_null(*json);
	if (pio_slurm_job_read(&job, *json, &err) != 0)
		fail_msg("%s", err.message);
	return job;
}

static const char golden[] =
	"#!/bin/sh\n"
	"#SBATCH --job-name=gpt-3\n"
	"#SBATCH --comment=pioche:01ARZ3NDEKTSV4RRFFQ69G5FAV:2:deadbeef\n"
	"#SBATCH --chdir=\"/store/it's 100% \\\"mine\\\"/2\"\n"
	"#SBATCH --output=\"/store/it's 100%% \\\"mine\\\"/2/head.err\"\n"
	"#SBATCH --open-mode=append\n"
	"#SBATCH --export=ALL\n"
	"#SBATCH --no-requeue\n"
	"#SBATCH --signal=B:USR2@130\n"
	"#SBATCH --nodes=6\n"
	"#SBATCH --ntasks-per-node=8\n"
	"#SBATCH --cpus-per-task=12\n"
	"#SBATCH --gpus-per-node=8\n"
	"#SBATCH --gres=gpu:h100:8\n"
	"#SBATCH --time=1-02:04:00\n"
	"#SBATCH --partition=batch\n"
	"#SBATCH --account=lab\n"
	"#SBATCH --qos=high\n"
	"#SBATCH --constraint=\"a&(b|c)\"\n"
	"#SBATCH --exclude=dgx-[003,007]\n"
	"#SBATCH --reservation=maintenance\n"
	"#SBATCH --mem=0\n"
	"#SBATCH --exclusive\n"
	"\n"
	"# One attempt is started once, whoever requeues or submits this again.\n"
	"if ! mkdir '/store/it'\\''s 100% \"mine\"/2'/claim; then\n"
	"\techo \"job $SLURM_JOB_ID: this attempt was started before\"\n"
	"\texit 0\n"
	"fi\n"
	"# The head: it starts one agent on each node, by\n"
	"# srun --nodes=6 --ntasks=6 --ntasks-per-node=1 --kill-on-bad-exit=0 --wait=0 --cpu-bind=none"
	" --mpi=none --input=none --output=/store/it's 100%% \"mine\"/2/agent.%n.err --open-mode=append"
	" /opt/pioche agent --join\n"
	"exec '/opt/pioche' agent --head '/store/it'\\''s 100% \"mine\"/2'\n";

static void test_script(void **state)
{
	(void)state;
	json_t *launch;
	pio_slurm_job job = job_of("{\"nodes\": 4, \"spares\": 2, \"ranks_per_node\": 8, \"cpus_per_rank\": 12,"
		"\"gpus_per_node\": 8, \"gres\": \"gpu:h100:8\", \"time_s\": 93781, \"partition\": \"batch\","
		"\"account\": \"lab\", \"qos\": \"high\", \"constraint\": \"a&(b|c)\","
		"\"exclude\": \"dgx-[003,007]\", \"reservation\": \"maintenance\","
		"\"flags\": [\"--mem=0\", \"--exclusive\"]}", &launch);
	pio_str script = PIO_STR_INIT;
	assert_int_equal(pio_slurm_script(&script, &job, &err), 0);
	assert_string_equal(script.data, golden);
	pio_str_fini(&script);
	json_decref(launch);
}

static void test_agents_are_started_on_some_nodes(void **state)
{
	(void)state;
	json_t *launch, *argv;
	pio_slurm_job job = job_of("{\"nodes\": 4, \"spares\": 2}", &launch);
	assert_int_equal(pio_slurm_start(&argv, &job, true, &err), 0);
	char *text = json_dumps(argv, JSON_COMPACT);
	assert_int_equal(strncmp(text, "[\"srun\",\"--nodes={count}\",\"--ntasks={count}\",\"--ntasks-per-node=1\","
	                               "\"--nodelist={hosts}\",\"--overlap\",", 98), 0);
	free(text);
	json_decref(argv);
	assert_int_equal(pio_slurm_start(&argv, &job, false, &err), 0);
	assert_string_equal(json_string_value(json_array_get(argv, 1)), "--nodes=6");
	json_decref(argv);
	json_decref(launch);
}

static const char golden_pool[] =
	"#!/bin/sh\n"
	"#SBATCH --job-name=gpt-3\n"
	"#SBATCH --comment=pioche:01ARZ3NDEKTSV4RRFFQ69G5FAV:2:deadbeef\n"
	"#SBATCH --chdir=/store/pools/1\n"
	"#SBATCH --output=/store/pools/1/pilot.err\n"
	"#SBATCH --open-mode=append\n"
	"#SBATCH --export=ALL\n"
	"#SBATCH --no-requeue\n"
	"#SBATCH --no-kill\n"
	"#SBATCH --signal=B:USR2@130\n"
	"#SBATCH --nodes=16\n"
	"#SBATCH --ntasks-per-node=8\n"
	"#SBATCH --time=0-04:00:00\n"
	"\n"
	"# One pool is started once, whoever requeues or submits this again.\n"
	"if ! mkdir '/store/pools/1'/claim; then\n"
	"\techo \"job $SLURM_JOB_ID: this pool was started before\"\n"
	"\texit 0\n"
	"fi\n"
	"# The pilot: it starts the heads of the runs that it is given, and these their agents.\n"
	"exec '/opt/pioche' agent --pilot '/store/pools/1'\n";

static void test_script_of_a_pool(void **state)
{
	(void)state;
	json_t *launch;
	pio_slurm_job job = job_of("{\"nodes\": 16, \"ranks_per_node\": 8, \"time_s\": 14400}", &launch);
	pio_str script = PIO_STR_INIT;
	job.is_pool = true;
	job.dir = "/store/pools/1";
	assert_int_equal(pio_slurm_script(&script, &job, &err), 0);
	assert_string_equal(script.data, golden_pool);
	pio_str_fini(&script);
	json_decref(launch);
}

/* Agents on some of the nodes of a job, where another attempt may just be ending. */
static void test_start_in_a_pool(void **state)
{
	(void)state;
	json_t *launch, *argv;
	pio_slurm_job job = job_of("{\"nodes\": 2, \"ranks_per_node\": 8}", &launch);
	job.hosts = "dgx-003,dgx-007";
	assert_int_equal(pio_slurm_start(&argv, &job, false, &err), 0);
	assert_string_equal(json_string_value(json_array_get(argv, 1)), "--nodes=2");
	assert_string_equal(json_string_value(json_array_get(argv, 4)), "--nodelist=dgx-003,dgx-007");
	assert_string_equal(json_string_value(json_array_get(argv, 5)), "--overlap");
	json_decref(argv);
	json_decref(launch);
}

static void test_little_is_asked_for(void **state)
{
	(void)state;
	json_t *launch, *options;
	pio_slurm_job job = job_of("{\"nodes\": 2}", &launch);
	assert_int_equal(pio_slurm_options(&options, &job, false, &err), 0);
	assert_int_equal(json_array_size(options), 2);
	assert_string_equal(json_string_value(json_array_get(options, 0)), "--nodes=2");
	json_decref(options);
	json_decref(launch);
}

static void expect_refused(const char *launch, const char *message)
{
	json_t *json = json_loads(launch, 0, NULL);
	pio_slurm_job job = { 0 };
	assert_int_equal(pio_slurm_job_read(&job, json, &err), -PIO_EINVAL);
	if (!strstr(err.message, message))
		fail_msg("\"%s\", expected \"%s\"", err.message, message);
	json_decref(json);
}

static void test_wrong_options(void **state)
{
	(void)state;
	expect_refused("{\"nodes\": 0}", "nodes must be an integer from 1");
	expect_refused("{\"time_s\": \"4 hours\"}", "time_s must be an integer");
	expect_refused("{\"partition\": \"a\\nb\"}", "partition must be a string of one line");
	expect_refused("{\"partition\": \"\"}", "partition");
	expect_refused("{\"flags\": [\"mem=0\"]}", "flags[1] is \"mem=0\", expected an option of sbatch");
	expect_refused("{\"flags\": \"--mem=0\"}", "flags must be a list");
	json_t *launch, *options;
	pio_slurm_job job = job_of("{}", &launch);
	pio_str script = PIO_STR_INIT;
	job.dir = "/a\nb";
	assert_int_equal(pio_slurm_options(&options, &job, true, &err), -PIO_EINVAL);
	assert_null(options);
	job.dir = "/\xff";
	assert_int_equal(pio_slurm_script(&script, &job, &err), -PIO_EINVAL);
	pio_str_fini(&script);
	json_decref(launch);
}

static void test_environment(void **state)
{
	(void)state;
	pio_slurm_job plain = { 0 }, full = { .partition = "batch", .time_s = 60 };
	assert_true(pio_slurm_passes(&plain, "PATH=/bin"));
	assert_true(pio_slurm_passes(&plain, "SLURM_CONF=/etc/slurm.conf"));
	assert_false(pio_slurm_passes(&plain, "SLURM_JOB_ID=12"));
	assert_false(pio_slurm_passes(&plain, "SLURMD_NODENAME=dgx-001"));
	assert_false(pio_slurm_passes(&plain, "SQUEUE_STATES=RUNNING"));
	assert_false(pio_slurm_passes(&plain, "SBATCH_REQUEUE=1"));
	assert_true(pio_slurm_passes(&plain, "SBATCH_PARTITION=mine"));
	assert_true(pio_slurm_passes(&plain, "SBATCH_TIMELIMIT=5"));
	assert_false(pio_slurm_passes(&full, "SBATCH_PARTITION=mine"));
	assert_false(pio_slurm_passes(&full, "SBATCH_TIMELIMIT=5"));
	assert_true(pio_slurm_passes(&full, "SBATCH_ACCOUNT=lab"));
}

static void test_job_ids(void **state)
{
	(void)state;
	char id[PIO_SLURM_ID_BYTES];
	assert_true(pio_slurm_id(id, "812\n"));
	assert_string_equal(id, "812");
	assert_true(pio_slurm_id(id, "813;pod-2\n"));
	assert_string_equal(id, "813");
	static const char *const wrong[] = { "", "\n", "Submitted batch job 812\n", "812 \n", "812\n813\n", "-1\n",
	                                     "0\n", "812;a b\n", "x812\n", "123456789012345678901234567890\n" };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
		if (pio_slurm_id(id, wrong[i]))
			fail_msg("\"%s\" was read as job %s", wrong[i], id);
}

static void test_queue(void **state)
{
	(void)state;
	const char *at = "CLUSTER: pod\n7|PENDING|4|Resources|pioche:U:1:ab\nJOBID|STATE|NODES|REASON|COMMENT\n"
	                 "8|RUNNING|127|None|a|b\n9|COMPLETING|1|None|(null)\n10|PENDING|99|ReqNodeNotAvail, "
	                 "UnavailableNodes:dgx-[003,017,021,034-037,052,066,081,090-093,112]|k";
	pio_slurm_line line;
	assert_true(pio_slurm_line_next(&line, &at));
	assert_string_equal(line.id, "7");
	assert_string_equal(line.state, "PENDING");
	assert_string_equal(line.reason, "Resources");
	assert_string_equal(line.key, "pioche:U:1:ab");
	assert_int_equal(line.nodes, 4);
	assert_true(pio_slurm_line_next(&line, &at));
	assert_string_equal(line.key, "a|b");
	assert_string_equal(line.reason, "");
	assert_true(pio_slurm_line_next(&line, &at));
	assert_string_equal(line.id, "9");
	assert_true(pio_slurm_line_next(&line, &at));
	assert_string_equal(line.reason, "ReqNodeNotAvail, UnavailableNodes:dgx-[003,017,021,034-037,052,"); /* cut */
	assert_false(pio_slurm_line_next(&line, &at));
	assert_int_equal(pio_slurm_phase("PENDING"), PIO_SLURM_WAITING);
	assert_int_equal(pio_slurm_phase("COMPLETING"), PIO_SLURM_RUNNING);
	assert_int_equal(pio_slurm_phase("OUT_OF_MEMORY"), PIO_SLURM_OVER);
	assert_int_equal(pio_slurm_phase("SOMETHING_NEW"), PIO_SLURM_UNREADABLE);
}

static void expect_result(const char *text, bool accounting, const char *result, const char *message)
{
	pio_slurm_end end;
	pio_str words = PIO_STR_INIT;
	assert_true(accounting ? pio_slurm_end_sacct(&end, text) : pio_slurm_end_scontrol(&end, text));
	assert_string_equal(pio_slurm_result(&words, &end, "12"), result);
	assert_string_equal(words.data, message);
	pio_str_fini(&words);
}

static void test_ends(void **state)
{
	(void)state;
	expect_result("JobId=12 JobName=x JobState=TIMEOUT Reason=TimeLimit ExitCode=0:15 RunTime=1\n", false,
	              "timeout", "job 12: TIMEOUT (SIGTERM)");
	expect_result("JobId=12 JobName=x JobState=NODE_FAIL Reason=NodeDown ExitCode=0:0\n", false, "node_fail",
	              "job 12: NODE_FAIL");
	expect_result("JobId=12 JobName=x JobState=PREEMPTED ExitCode=0:15\n", false, "preempted",
	              "job 12: PREEMPTED (SIGTERM)");
	expect_result("OUT_OF_MEMORY|0:125\n", true, "oom", "job 12: OUT_OF_MEMORY (signal 125)");
	expect_result("FAILED|3:0\n", true, "failed", "job 12: FAILED (exit status 3)");
	expect_result("CANCELLED by 0|0:15\n", true, "cancelled", "job 12 was cancelled, not by pioche but by root");
	expect_result("CANCELLED by 987654321|0:0\n", true, "cancelled",
	              "job 12 was cancelled, not by pioche but by 987654321");
	expect_result("JobId=12 JobName=x JobState=COMPLETED ExitCode=0:0\n", false, "lost",
	              "job 12 ended without an exit record");
	pio_slurm_end end = { "", "", -1, -1 };
	pio_str words = PIO_STR_INIT;
	assert_string_equal(pio_slurm_result(&words, &end, "12"), "lost");
	pio_str_fini(&words);
	assert_false(pio_slurm_end_scontrol(&end, "slurm_load_jobs error: Invalid job id specified\n"));
	assert_false(pio_slurm_end_scontrol(&end, "JobId=1 JobState=NEW_WORD ExitCode=0:0\n"));
	assert_false(pio_slurm_end_sacct(&end, "\n"));
	assert_false(pio_slurm_end_sacct(&end, "WHAT|0:0\n"));
}

static void test_troubles(void **state)
{
	(void)state;
	assert_int_equal(pio_slurm_trouble("sbatch: error: Batch job submission failed: Unable to contact slurm"
	                                   " controller (connect failure)\n"), PIO_SLURM_ABSENT);
	assert_int_equal(pio_slurm_trouble("sbatch: error: Batch job submission failed: Socket timed out on"
	                                   " send/recv operation\n"), PIO_SLURM_ABSENT);
	assert_int_equal(pio_slurm_trouble("sbatch: error: QOSMaxSubmitJobPerUserLimit\n"), PIO_SLURM_ABSENT);
	assert_int_equal(pio_slurm_trouble("Slurm accounting storage is disabled\n"), PIO_SLURM_NO_ACCOUNTING);
	assert_int_equal(pio_slurm_trouble("slurm_load_jobs error: Invalid job id specified\n"),
	                 PIO_SLURM_NO_SUCH_JOB);
	const char *refused = "sbatch: error: invalid partition specified: nope\n"
	                      "sbatch: error: Batch job submission failed: Invalid partition name specified\n";
	assert_int_equal(pio_slurm_trouble(refused), PIO_SLURM_REFUSED);
	pio_str words = PIO_STR_INIT;
	pio_slurm_words(&words, refused);
	assert_string_equal(words.data, "invalid partition specified: nope; Batch job submission failed:"
	                                " Invalid partition name specified");
	pio_str_fini(&words);
}

static void test_dead_nodes(void **state)
{
	(void)state;
	static const char *const texts[] = {
		"srun: error: Task launch for StepId=2.1 failed on node dgx-002: Communication connection failure\n"
		"srun: error: Application launch failed: Communication connection failure\nsrun: Job step aborted\n",
		"srun: error: Node failure on dgx-002\nsrun: Job step aborted\n",
	};
	pio_str node = PIO_STR_INIT;
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
		pio_str_clear(&node);
		assert_true(pio_slurm_dead_node(&node, texts[i]));
		assert_string_equal(node.data, "dgx-002");
	}
	pio_str_clear(&node);
	assert_false(pio_slurm_dead_node(&node, "srun: error: dgx-002: task 0: Exited with exit code 3\n"));
	assert_string_equal(node.data, "");
	pio_str_fini(&node);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_script), cmocka_unit_test(test_script_of_a_pool),
		cmocka_unit_test(test_start_in_a_pool), cmocka_unit_test(test_little_is_asked_for),
		cmocka_unit_test(test_agents_are_started_on_some_nodes),
		cmocka_unit_test(test_wrong_options), cmocka_unit_test(test_environment),
		cmocka_unit_test(test_job_ids), cmocka_unit_test(test_queue), cmocka_unit_test(test_ends),
		cmocka_unit_test(test_troubles), cmocka_unit_test(test_dead_nodes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
