/* Bindings on machines that are made of files: two sockets of 8 cores with two
 * threads each, CPUs 0-7 and 16-23 on node 0, 8-15 and 24-31 on node 1. */
#include <string.h>

#include "launch/agent_bind.h"
#include "test.h"

static char *sys;

static void put_file(const char *text, const char *format, int number)
{
	char path[4096], name[512];
	snprintf(name, sizeof name, format, number);
	snprintf(path, sizeof path, "%s/%s", sys, name);
	*strrchr(path, '/') = 0;
	check_ok(pio_fs_mkdirs(path, 0755, &err));
	check_ok(pio_fs_write(path_in(sys, name), text, strlen(text), 0644, &err));
}

static int set_up(void **state)
{
	(void)state;
	sys = scratch_new();
	for (int cpu = 0; cpu < 32; cpu++) {
		char siblings[16];
		snprintf(siblings, sizeof siblings, "%d,%d\n", cpu % 16, cpu % 16 + 16);
		put_file(siblings, "devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
		put_file(cpu % 16 < 8 ? "0\n" : "1\n", "devices/system/cpu/cpu%d/topology/physical_package_id", cpu);
	}
	put_file("0-7,16-23\n", "devices/system/node/node%d/cpulist", 0);
	put_file("8-15,24-31\n", "devices/system/node/node%d/cpulist", 1);
	put_file("0-1\n", "devices/system/node/online", 0);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	scratch_remove(sys);
	return 0;
}

/* `count` GPUs, the first half next to node 0's CPUs. */
static pio_gpus make_gpus(pio_gpu *gpus, int count)
{
	for (int i = 0; i < count; i++) {
		gpus[i] = (pio_gpu){ .index = i, .has_cpus = true };
		snprintf(gpus[i].uuid, sizeof gpus[i].uuid, "GPU-%c", 'a' + i);
		gpus[i].cpus[0] = i < count / 2 ? 0x00ff00ff : 0xff00ff00;
	}
	return (pio_gpus){ .gpus = gpus, .count = (size_t)count };
}

/* Plan, and compare "CPUS MEMORY GPU" of each rank, joined by " | ", or why not. */
static void expect(const char *expected, const char *mode, int ranks, const char *allowed,
                   const pio_gpus *gpus, const char *visible)
{
	const pio_gpus none = { .gpus = NULL };
	pio_binding binding;
	pio_binding_request request = { .mode = mode, .ranks = ranks, .sys = sys, .gpus = gpus ? gpus : &none,
	                                .visible = visible };
	pio_str text = PIO_STR_INIT;
	assert_true(pio_cpus_parse(&request.allowed, allowed));
	check_ok(pio_binding_plan(&binding, &request, &err));
	for (int i = 0; i < ranks && binding.ranks; i++) {
		const pio_bind *bind = &binding.ranks[i];
		pio_str_puts(&text, i ? " | " : "");
		pio_cpus_put(&text, &bind->cpus);
		pio_str_printf(&text, " %d%s%s", bind->memory_node, bind->gpu ? " " : "",
		               bind->gpu ? bind->gpu : "");
	}
	if (!binding.ranks) {
		pio_str_puts(&text, binding.why);
		json_t *json = pio_binding_json(&binding, 0);
		assert_true(json_is_null(json));
		json_decref(json);
		check_ok(pio_binding_enter(&binding, 0, &err)); /* nothing to do */
		check_ok(pio_binding_leave(&binding, 0, &err));
	}
	assert_string_equal(text.data, expected);
	pio_str_fini(&text);
	pio_binding_fini(&binding);
}

static void cores_are_split_evenly_and_whole(void **state)
{
	(void)state;
	expect("0-7,16-23 0 | 8-15,24-31 1", "cores", 2, "0-31", NULL, NULL);
	expect("0-3,16-19 0 | 4-7,20-23 0 | 8-11,24-27 1 | 12-15,28-31 1", "auto", 4, "0-31", NULL, NULL);
	/* 16 cores for 3: 5, 5 and 6; the one across both sockets prefers no memory. */
	expect("0-4,16-20 0 | 5-9,21-25 -1 | 10-15,26-31 1", "cores", 3, "0-31", NULL, NULL);
	expect("0-31 -1", "cores", 1, "0-31", NULL, NULL);
}

/* Of what a cgroup, taskset or Slurm left. */
static void only_what_is_allowed_is_given(void **state)
{
	(void)state;
	expect("6-7 0 | 8-9 1", "cores", 2, "6-9", NULL, NULL);
	expect("3,19 0 | 12 1", "cores", 2, "3,12,19", NULL, NULL); /* both threads of one, one of another */
}

/* A list is made of slots; what is visible is told by numbers or UUIDs. */
static void expect_visible(const char *expected, const pio_gpus *gpus, const char *visible, const int *slots,
                           int count)
{
	pio_str list = PIO_STR_INIT;
	for (int i = 0; i < count; i++)
		pio_gpu_put_visible(&list, gpus, visible, slots[i]);
	assert_string_equal(list.len ? list.data : "", expected);
	pio_str_fini(&list);
}

static void slots_of_a_node_see_their_gpus(void **state)
{
	(void)state;
	pio_gpu some[8];
	const pio_gpus none = { .gpus = NULL }, gpus = make_gpus(some, 4);
	expect_visible("2,3", &gpus, NULL, (int[]){ 2, 3 }, 2);
	expect_visible("7,GPU-c", &gpus, "5,7,GPU-c,1", (int[]){ 1, 2 }, 2);
	expect_visible("5", &none, "5", (int[]){ 0, 1, 2 }, 3);
	expect_visible("1,3", &gpus, NULL, (int[]){ 1, 3, 5, 7 }, 4); /* two slots a GPU */
	expect_visible("12,1", &gpus, "12,1", (int[]){ 0, 1 }, 2);
	expect_visible("", &none, NULL, (int[]){ 0 }, 1);
	expect_visible("", &none, "", (int[]){ 0 }, 1);
}

static void more_ranks_than_cores_are_not_bound(void **state)
{
	(void)state;
	expect("ranks are not bound: there are 3 of them and 2 cores", "auto", 3, "0-1,16-17", NULL, NULL);
	expect("ranks are not bound: there are 17 of them and 16 cores", "cores", 17, "0-31", NULL, NULL);
	expect("ranks are not bound: there are 2 of them and 1 core", "auto", 2, "1,17", NULL, NULL);
	expect("", "none", 2, "0-31", NULL, NULL);
}

static void ranks_are_next_to_their_gpu(void **state)
{
	(void)state;
	pio_gpu some[8];
	pio_gpus gpus = make_gpus(some, 4);
	expect("0-3,16-19 0 GPU-a | 4-7,20-23 0 GPU-b | 8-11,24-27 1 GPU-c | 12-15,28-31 1 GPU-d", "auto", 4,
	       "0-31", &gpus, NULL);
	/* In the order of CUDA_VISIBLE_DEVICES, by number or UUID. */
	expect("8-15,24-31 1 GPU-d | 0-7,16-23 0 GPU-a", "gpu", 2, "0-31", &gpus, "3,0");
	expect("8-15,24-31 1 GPU-c | 0-7,16-23 0 GPU-b", "gpu", 2, "0-31", &gpus, "GPU-c,GPU-b");
	expect("0-3,16-19 0 GPU-a | 8-15,24-31 1 GPU-d | 4-7,20-23 0 GPU-a", "gpu", 3, "0-31", &gpus, "0,3");
	/* Three allowed cores, for two ranks on one side and one on the other. */
	expect("7 0 GPU-a | 8 1 GPU-c | 9-10 1 GPU-d", "auto", 3, "7-10", &gpus, "0,2,3");
	expect("0-15 -1", "cores", 1, "0-15", &gpus, NULL);
}

static void without_known_gpus_auto_splits_and_gpu_says_so(void **state)
{
	(void)state;
	static const char unknown[] = "ranks are not bound: no allowed CPUs next to each rank's GPU are known";
	pio_gpu some[8];
	pio_gpus gpus = make_gpus(some, 2);
	expect(unknown, "gpu", 2, "0-31", NULL, NULL);
	expect(unknown, "gpu", 2, "0-7", &gpus, NULL);      /* GPU-b's are not allowed */
	expect(unknown, "gpu", 2, "0-31", &gpus, "0,7");
	expect(unknown, "gpu", 2, "0-31", &gpus, "");
	expect("0-3 0 | 4-7 0", "auto", 2, "0-7", &gpus, NULL);
	expect("ranks are not bound: there are more of them than cores next to a GPU", "gpu", 4, "7-8", &gpus,
	       NULL);
	gpus.gpus[1].has_cpus = false;
	expect("0-7,16-23 0 | 8-15,24-31 1", "auto", 2, "0-31", &gpus, NULL);
}

/* A container that hides /sys: each CPU counts as a core. The last test: it
 * takes the machine apart. */
static void without_topology_cpus_are_cores(void **state)
{
	(void)state;
	check_ok(pio_fs_remove_tree(path_in(sys, "devices"), &err));
	expect("0-1 -1 | 2-3 -1", "auto", 2, "0-3", NULL, NULL);
}

static void what_is_started_in_between_is_bound(void **state)
{
	(void)state;
	pio_cpus before, inside, after;
	pio_binding binding;
	const pio_gpus none = { .gpus = NULL };
	pio_binding_request request = { .mode = "cores", .ranks = 1, .sys = sys, .gpus = &none };
	check_ok(pio_cpus_allowed(&before, &err));
	pio_cpus_add(&request.allowed, pio_cpus_next(&before, 0));
	check_ok(pio_binding_plan(&binding, &request, &err));
	binding.allowed = before;
	check_ok(pio_binding_enter(&binding, 0, &err));
	check_ok(pio_cpus_allowed(&inside, &err));
	check_ok(pio_binding_leave(&binding, 0, &err));
	check_ok(pio_cpus_allowed(&after, &err));
	assert_true(pio_cpus_equal(&inside, &request.allowed) && pio_cpus_equal(&after, &before));
	/* CPUs that went away meanwhile: said, and on record as unbound. */
	assert_true(pio_cpus_parse(&binding.ranks[0].cpus, "8000"));
	check_fails(pio_binding_enter(&binding, 0, &err), PIO_EIO, "run on CPUs 8000");
	json_t *json = pio_binding_json(&binding, 0);
	assert_true(json_is_null(json));
	json_decref(json);
	pio_binding_fini(&binding);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(cores_are_split_evenly_and_whole),
		cmocka_unit_test(only_what_is_allowed_is_given),
		cmocka_unit_test(slots_of_a_node_see_their_gpus),
		cmocka_unit_test(more_ranks_than_cores_are_not_bound),
		cmocka_unit_test(ranks_are_next_to_their_gpu),
		cmocka_unit_test(without_known_gpus_auto_splits_and_gpu_says_so),
		cmocka_unit_test(what_is_started_in_between_is_bound),
		cmocka_unit_test(without_topology_cpus_are_cores),
	};
	return cmocka_run_group_tests(tests, set_up, tear_down);
}
