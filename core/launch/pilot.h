/* pilot.h: many attempts in one job of Slurm: `pioche agent --pilot DIR` in the
 * batch step of an allocation.
 *
 * Which attempt runs where and when is the supervisor's to decide; the pilot starts
 * the head of each (launch/head.h), passes on what it is told, and says how the
 * allocation is. They speak through files of the store that are replaced whole, so
 * that either may die and be started anew, on a network file system as well. A file
 * that is looked for often is there from the beginning: what is new in it is seen
 * at the next open, where a file that is new may be hidden by a cache for a minute.
 *
 * DIR/pool.json, written before the job is submitted:
 *   { "version": 1, "executable": pioche, "time_s": of the allocation,
 *     "idle_s": without work for so long it ends }
 * DIR/orders.json, by the supervisor: all that is to run now. Who is no longer in it
 * has ended; who is in it and was never started is started, once, whoever asks:
 *   { "version": 1, "attempts": [ directory, ... ], "end": no more will come }
 * ATTEMPT/order, by whoever may stop it: "run", later "stop" or "kill".
 * DIR/state.json, by the pilot, at every change and every few seconds:
 *   { "version": 1, "job": SLURM_JOB_ID, "phase": "open", "closing" or "closed",
 *     "told": the signal that closed it or null, "nodes": [ name, ... ],
 *     "began_ns", "until_ns": wall time; when the allocation ends,
 *     "running": [ directory, ... ], "beat": goes up }
 *
 * A head that dies without its record gets one, `lost`, once its agents have
 * stopped by themselves; so whoever is in "orders" comes to an end while the pilot
 * lives. Closing, it starts nobody; closed, nothing of it runs, and it is gone.
 *
 * Signals: SIGTERM, SIGINT and SIGUSR2 are passed to all heads, which know what a second
 * one means (head.h); after any of them it closes. */
#ifndef PIO_LAUNCH_PILOT_H
#define PIO_LAUNCH_PILOT_H

/* The verb: exit status 0; 3 where it could not work. */
int pio_pilot_main(const char *dir);

#endif
