/* gate_search.h: which node makes an all-reduce slow? Found by halves.
 *
 * A pure calculation: it says which nodes are to be measured together, is told how
 * fast they were, and says what to measure next. A ring is as fast as its slowest
 * node, so that a group is slow where one of it is. No clock, no process, no I/O.
 *
 *   WHOLE    all together. Where that is as fast as expected, nothing more.
 *   SPLIT    the nodes are four quarters, and there are three ways to make two halves
 *            of these: all three are measured, both halves at once. Two nodes that are
 *            in different halves of two of them are in the same one of the third, so
 *            that two slow nodes, wherever they are, leave one half clean. Who is in
 *            a half that is not slow is good.
 *   PARTS    of the others: a part with one good node, beside as many good ones as a
 *            control (or before it, where there are not as many). A slow part is
 *            halved; a node that is slow alone, with two different good ones, is slow.
 *
 * Slow is less than 0.7 of the control, or than what is expected where the control
 * reaches that: by little, measures differ from minute to minute. Of more than two
 * slow nodes it finds those that leave one of the six halves clean. Groups have the
 * size of their control, as the latency of a ring grows with it. */
#ifndef PIO_LAUNCH_GATE_SEARCH_H
#define PIO_LAUNCH_GATE_SEARCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define PIO_GATE_RATIO 0.7

enum pio_gate_state { PIO_GATE_UNKNOWN, PIO_GATE_GOOD, PIO_GATE_SLOW };
enum pio_gate_stage { PIO_GATE_WHOLE, PIO_GATE_SPLIT, PIO_GATE_PARTS, PIO_GATE_OVER };

typedef struct pio_gate_node {
	enum pio_gate_state state;
	double busbw;            /* of the group it was judged by, bytes a second; 0: none */
	double control;          /* SLOW: what others had meanwhile */
	int strikes;             /* how often it was slow alone */
	int group;               /* in this round: 0, 1, or -1: it waits */
} pio_gate_node;

typedef struct pio_gate_part {
	int begin, end;          /* of `suspects` */
} pio_gate_part;

typedef struct pio_gate_search {
	int count, most;
	double expected;
	pio_gate_node *nodes;
	enum pio_gate_stage stage;
	int round;               /* measured so far */
	int split;               /* of three */
	double whole, halves[3][2];
	int *suspects;           /* what SPLIT leaves */
	pio_gate_part *parts;    /* still to look at; the last one is next */
	int part_count;
	double control;          /* measured before its part; 0: not */
	int partner;             /* turns, so that no one node decides */
	int slow;                /* nodes found */
} pio_gate_search;

/* `expected`: bytes a second, 0: nothing known. It stops at more than `most` slow
 * nodes. End with pio_gate_search_fini whatever comes back. */
int pio_gate_search_init(pio_gate_search *search, int count, int most, double expected, pio_err *err);
void pio_gate_search_fini(pio_gate_search *search);
/* Sets the group of each node. False: it is over. */
bool pio_gate_search_next(pio_gate_search *search);
/* How fast the two groups were, bytes a second of bus bandwidth; one without
 * two nodes is not measured, and its figure not looked at. */
void pio_gate_search_take(pio_gate_search *search, const double busbw[2]);
/* Of all together, and of the halves: what the best of them had. */
double pio_gate_search_best(const pio_gate_search *search);
/* Nodes in a group of this round. */
int pio_gate_search_size(const pio_gate_search *search, int group);

#endif
