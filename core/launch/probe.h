/* probe.h: a rank of the gate (gate.h): with those of the other nodes it measures how
 * fast they add up, and finds who is slow.
 *
 * `pioche agent --probe EXPECTED MOST`, started by an agent as any rank: EXPECTED bytes
 * a second of bus bandwidth, 0 where nothing is known; at most MOST slow nodes are
 * looked for. Every rank makes the same search (gate_search.h), as all are told what
 * was measured; rank 0 says on its standard output, one line of JSON:
 *
 *   { "by": "nccl" or "tcp", "rounds": n, "whole": bytes a second of all together,
 *     "best": of all together or of a half, "nodes": [ { "state": "good|slow|unknown",
 *     "busbw": of the group it was judged by, "control": of the others, or null } ] }
 *
 * By NCCL where every rank has a GPU, and NCCL with groups; else the first rank of
 * each node measures, by the TCP ring of pio_comm. Bus bandwidth is what nccl-tests
 * calls so (doc/PERFORMANCE.md): 2(n-1)/n of the bytes in the time of an all-reduce, the
 * best of some. After each of them a point is logged, so that who hangs is found. */
#ifndef PIO_LAUNCH_PROBE_H
#define PIO_LAUNCH_PROBE_H

/* The exit status of the process. */
int pio_probe_main(const char *expected, const char *most);

#endif
