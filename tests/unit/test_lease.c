/* Each arrow of the diagram in core/store/lease.c, and each death between. */
#include "store_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>

#include "base/clock.h"
#include "store/lease.h"
#include "store/sql.h"

static fixture network_up(void)
{
	setenv("PIOCHE_FS", "network", 1);
	setenv("PIOCHE_LEASE_S", "1", 1);
	return store_up_run();
}

static void network_down(fixture *f)
{
	store_down(f);
	unsetenv("PIOCHE_FS");
	unsetenv("PIOCHE_LEASE_S");
}

static pio_store *open_again(const fixture *f)
{
	pio_store *store;
	check_ok(pio_store_open(&store, f->dir, PIO_STORE_WRITE, &err));
	return store;
}

static pio_lease_look look_at(pio_store *store)
{
	pio_lease_look look;
	check_ok(pio_store_lease_look(&look, store, &err));
	return look;
}

static const char *claim(const fixture *f, int token)
{
	char name[32];
	snprintf(name, sizeof name, "lease.%d", token);
	return path_in(f->dir, name);
}

/* The record says another kernel now: its holder is on another machine. */
static void move_far(const char *path)
{
	pio_str text = PIO_STR_INIT;
	int fd;
	check_ok(pio_fs_read(&text, path, &err));
	char *at = strstr(text.data, "\"kernel\":\"");
	assert_non_null(at);
	check_ok(pio_fs_open(&fd, path, O_WRONLY, 0, &err));
	assert_int_equal(pwrite(fd, "zzzz", 4, at + 10 - text.data), 4);
	close(fd);
	pio_str_fini(&text);
}

/* A child that holds the lease and tells so; it lives until it is killed. */
static pid_t holder_up(const fixture *f, void (*and_then)(pio_store *store))
{
	int ready[2];
	char byte;
	assert_int_equal(pipe(ready), 0);
	fflush(NULL);
	pid_t child = fork();
	if (child == 0) {
		pio_store *store;
		if (pio_store_open(&store, f->dir, PIO_STORE_WRITE, NULL) != 0 ||
		    pio_store_lease_take(store, NULL) != 0 || write(ready[1], "y", 1) != 1)
			_exit(90);
		and_then(store);
		_exit(0);
	}
	close(ready[1]);
	assert_int_equal(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return child;
}

static void wait_for_ever(pio_store *store)
{
	(void)store;
	for (;;)
		pause();
}

static int reap(pid_t child)
{
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void one_holder_who_is_named(void **unused)
{
	(void)unused;
	fixture f = network_up();
	pio_store *other = open_again(&f);
	char pid[32];
	snprintf(pid, sizeof pid, "pid %ld", (long)getpid());
	assert_int_equal(look_at(f.store).state, PIO_LEASE_FREE);
	check_ok(pio_store_lease_take(f.store, &err));
	check_ok(pio_store_lease_take(f.store, &err));
	assert_int_equal(pio_fs_type(claim(&f, 1)), PIO_FS_FILE);
	pio_lease_look look = look_at(other);
	assert_int_equal(look.state, PIO_LEASE_HELD);
	assert_non_null(strstr(look.holder, pid));
	check_fails(pio_store_lease_take(other, &err), PIO_EBUSY, pid);
	check_ok(pio_store_begin(other, &err)); /* a moment's writer needs no lease */
	check_ok(pio_store_commit(other, &err));
	pio_store_lease_drop(f.store);
	assert_int_equal(pio_fs_type(claim(&f, 1)), PIO_FS_NONE);
	check_ok(pio_store_lease_take(other, &err));
	assert_int_equal(sql_int(f.store, "SELECT token FROM lease"), 2);
	pio_store_close(&other);
	network_down(&f);
}

static void a_dead_holder_of_this_kernel_is_replaced_at_once(void **unused)
{
	(void)unused;
	fixture f = network_up();
	pid_t child = holder_up(&f, wait_for_ever);
	assert_int_equal(look_at(f.store).state, PIO_LEASE_HELD);
	kill(child, SIGSTOP); /* asleep is not dead */
	check_fails(pio_store_lease_take(f.store, &err), PIO_EBUSY, "pid");
	kill(child, SIGKILL);
	siginfo_t info;
	assert_int_equal(waitid(P_PID, (id_t)child, &info, WEXITED | WNOWAIT), 0);
	assert_int_equal(look_at(f.store).state, PIO_LEASE_DEAD); /* not reaped, but dead */
	reap(child);
	assert_int_equal(look_at(f.store).state, PIO_LEASE_DEAD);
	setenv("PIOCHE_LEASE_S", "3600", 1); /* nobody waits for it */
	check_ok(pio_store_lease_take(f.store, &err));
	assert_int_equal(pio_fs_type(claim(&f, 1)), PIO_FS_NONE);
	assert_int_equal(pio_fs_type(claim(&f, 2)), PIO_FS_FILE);
	network_down(&f);
}

static void a_far_holder_that_beats_is_left_alone(void **unused)
{
	(void)unused;
	fixture f = network_up();
	pio_store *other = open_again(&f);
	check_ok(pio_store_lease_take(f.store, &err));
	move_far(claim(&f, 1));
	pio_lease_look look = look_at(other);
	assert_int_equal(look.state, PIO_LEASE_FAR);
	assert_int_equal(look.silent_ms, 1000);
	check_fails(pio_store_lease_take(other, &err), PIO_EBUSY, "in use by another pioche");
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_commit(f.store, &err));
	pio_store_close(&other);
	network_down(&f);
}

/* Exit status 0: it was told. */
static void write_when_woken(pio_store *store)
{
	pio_err err = PIO_ERR_INIT;
	raise(SIGSTOP);
	if (pio_store_begin(store, &err) != -PIO_ETIMEOUT || !strstr(err.message, "took over"))
		_exit(1);
	err = (pio_err)PIO_ERR_INIT; /* nor by a statement of its own */
	if (pio_sql_exec(store, &err, "INSERT INTO node (name, first_seen_ns, last_seen_ns) VALUES"
	                 " ('split', 1, 1)", "") != -PIO_ETIMEOUT)
		_exit(2);
	pio_store_lease_drop(store);
	pio_store_close(&store);
}

static void who_slept_while_another_took_over_writes_no_more(void **unused)
{
	(void)unused;
	int status;
	fixture f = network_up();
	pid_t child = holder_up(&f, write_when_woken);
	assert_int_equal(waitpid(child, &status, WUNTRACED), child);
	move_far(claim(&f, 1));
	check_ok(pio_store_lease_take(f.store, &err)); /* after a second of silence */
	kill(child, SIGCONT);
	assert_int_equal(reap(child), 0);
	assert_int_equal(pio_fs_type(claim(&f, 2)), PIO_FS_FILE); /* its end took nothing along */
	assert_int_equal(sql_int(f.store, "SELECT count(*) FROM node"), 0);
	check_ok(pio_store_begin(f.store, &err));
	check_ok(pio_store_commit(f.store, &err));
	network_down(&f);
}

/* The claim stands, the database does not know of it. */
static void a_death_between_claim_and_fence_costs_a_token(void **unused)
{
	(void)unused;
	fixture f = network_up();
	pid_t child = holder_up(&f, wait_for_ever);
	kill(child, SIGKILL);
	reap(child);
	check_ok(pio_sql_exec(f.store, &err, "DELETE FROM lease", ""));
	assert_int_equal(look_at(f.store).state, PIO_LEASE_DEAD);
	check_ok(pio_store_lease_take(f.store, &err));
	assert_int_equal(sql_int(f.store, "SELECT token FROM lease"), 2);
	network_down(&f);
}

static void a_torn_claim_is_somebody_unknown_who_is_watched(void **unused)
{
	(void)unused;
	fixture f = network_up();
	check_ok(pio_fs_write(claim(&f, 5), "{\"beats\":  ", 11, 0666, &err));
	pio_lease_look look = look_at(f.store);
	assert_int_equal(look.state, PIO_LEASE_FAR);
	assert_string_equal(look.holder, "unknown");
	check_ok(pio_store_lease_take(f.store, &err));
	assert_int_equal(sql_int(f.store, "SELECT token FROM lease"), 6);
	assert_int_equal(pio_fs_type(claim(&f, 5)), PIO_FS_NONE);
	network_down(&f);
}

static void a_claim_removed_by_hand_gives_way(void **unused)
{
	(void)unused;
	fixture f = network_up();
	pio_store *other = open_again(&f);
	check_ok(pio_store_lease_take(f.store, &err));
	check_ok(pio_fs_unlink(claim(&f, 1), &err));
	check_ok(pio_store_lease_take(other, &err));
	check_fails(pio_store_begin(f.store, &err), PIO_ETIMEOUT, "took over");
	check_fails(pio_store_begin(f.store, &err), PIO_ETIMEOUT, "took over");
	pio_store_lease_drop(f.store);
	check_ok(pio_store_begin(f.store, &err)); /* now it is anybody */
	check_ok(pio_store_commit(f.store, &err));
	pio_store_close(&other);
	network_down(&f);
}

static void of_many_that_come_at_once_one_gets_it(void **unused)
{
	(void)unused;
	enum { COUNT = 8 };
	fixture f = network_up();
	pid_t dead = holder_up(&f, wait_for_ever), children[COUNT];
	int go[2], won = 0;
	char byte;
	kill(dead, SIGKILL);
	reap(dead);
	assert_int_equal(pipe(go), 0);
	fflush(NULL);
	for (int i = 0; i < COUNT; i++)
		if ((children[i] = fork()) == 0) {
			pio_store *store;
			close(go[1]);
			if (pio_store_open(&store, f.dir, PIO_STORE_WRITE, NULL) != 0 || read(go[0], &byte, 1) != 0)
				_exit(2);
			int rc = pio_store_lease_take(store, NULL);
			if (rc == 0)
				pio_clock_sleep_ms(500); /* let the others try */
			_exit(rc == 0 ? 0 : rc == -PIO_EBUSY ? 1 : 3);
		}
	close(go[0]);
	close(go[1]);
	for (int i = 0; i < COUNT; i++) {
		int status = reap(children[i]);
		assert_in_range(status, 0, 1);
		won += status == 0;
	}
	assert_int_equal(won, 1);
	check_ok(pio_store_lease_take(f.store, &err));
	network_down(&f);
}

static void a_lock_and_a_claim_heed_each_other(void **unused)
{
	(void)unused;
	fixture f = network_up();
	setenv("PIOCHE_FS", "local", 1);
	pio_store *local = open_again(&f);
	check_ok(pio_store_lease_take(local, &err));
	check_fails(pio_store_lease_take(f.store, &err), PIO_EBUSY, "pid");
	pio_store_lease_drop(local);
	check_ok(pio_store_lease_take(f.store, &err));
	check_fails(pio_store_lease_take(local, &err), PIO_EBUSY, "pid");
	pio_store_close(&local);
	setenv("PIOCHE_FS", "network", 1);
	network_down(&f);
}

static void a_local_lease_is_fenced_too(void **unused)
{
	(void)unused;
	fixture f = store_up();
	check_ok(pio_store_lease_take(f.store, &err));
	pio_store *other = open_again(&f);
	check_ok(pio_sql_exec(other, &err, "UPDATE lease SET token = token + 1", ""));
	check_fails(pio_store_begin(f.store, &err), PIO_ETIMEOUT, "took over");
	pio_store_lease_drop(f.store);
	pio_store_close(&other);
	store_down(&f);
}

/* Every write, sync and unlink fails once: the lease is had or not, and what is
 * left over is no obstacle. */
static void a_failing_disk_leaves_no_half_lease(void **unused)
{
	(void)unused;
	fixture f = network_up();
	int rc = -1;
	for (uint64_t n = 1; rc != 0 && n < 100; n++) {
		pio_fs_fault_at("wsru", n, EIO);
		rc = pio_store_lease_take(f.store, NULL);
		pio_fs_fault_at("", 0, 0);
		pio_store *other = open_again(&f);
		if (rc != 0)
			check_ok(pio_store_lease_take(other, &err));
		pio_store_close(&other);
	}
	assert_int_equal(rc, 0);
	network_down(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_holder_who_is_named),
		cmocka_unit_test(a_dead_holder_of_this_kernel_is_replaced_at_once),
		cmocka_unit_test(a_far_holder_that_beats_is_left_alone),
		cmocka_unit_test(who_slept_while_another_took_over_writes_no_more),
		cmocka_unit_test(a_death_between_claim_and_fence_costs_a_token),
		cmocka_unit_test(a_torn_claim_is_somebody_unknown_who_is_watched),
		cmocka_unit_test(a_claim_removed_by_hand_gives_way),
		cmocka_unit_test(of_many_that_come_at_once_one_gets_it),
		cmocka_unit_test(a_lock_and_a_claim_heed_each_other),
		cmocka_unit_test(a_local_lease_is_fenced_too),
		cmocka_unit_test(a_failing_disk_leaves_no_half_lease),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
