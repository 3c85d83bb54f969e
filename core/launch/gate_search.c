#include "launch/gate_search.h"

#include "base/mem.h"

#define ROUNDS_MAX 200   /* then what is left stays unknown */
#define STRIKES 2

int pio_gate_search_init(pio_gate_search *s, int count, int most, double expected, pio_err *err)
{
	*s = (pio_gate_search){ .count = count, .most = most, .expected = expected };
	s->nodes = pio_calloc((size_t)count, sizeof *s->nodes);
	s->suspects = pio_calloc((size_t)count, sizeof *s->suspects);
	/* Halving leaves one part behind on each level. */
	s->parts = pio_calloc(64, sizeof *s->parts);
	if (!s->nodes || !s->suspects || !s->parts)
		return pio_fail(err, PIO_ENOMEM, "out of memory for a search among %d nodes", count);
	return 0;
}

void pio_gate_search_fini(pio_gate_search *s)
{
	pio_free(s->nodes);
	pio_free(s->suspects);
	pio_free(s->parts);
	*s = (pio_gate_search){ .count = 0 };
}

int pio_gate_search_size(const pio_gate_search *s, int group)
{
	int size = 0;
	for (int i = 0; i < s->count; i++)
		size += s->nodes[i].group == group;
	return size;
}

double pio_gate_search_best(const pio_gate_search *s)
{
	double best = s->whole;
	for (int k = 0; k < 6; k++)
		if (s->halves[k / 2][k % 2] > best)
			best = s->halves[k / 2][k % 2];
	return best;
}

static bool is_slow(const pio_gate_search *s, double busbw, double control)
{
	return busbw < PIO_GATE_RATIO * control || (control >= s->expected && busbw < s->expected);
}

/* ---- halves ---------------------------------------------------------------------------- */

/* Quarters 0 and 1 against 2 and 3; 0 and 2 against 1 and 3; 0 and 3 against 1 and 2. */
static int half_of(const pio_gate_search *s, int split, int node)
{
	int quarter = (int)((int64_t)node * 4 / s->count), high = quarter >> 1, low = quarter & 1;
	return split == 0 ? high : split == 1 ? low : high ^ low;
}

static int half_size(const pio_gate_search *s, int split, int half)
{
	int size = 0;
	for (int i = 0; i < s->count; i++)
		size += half_of(s, split, i) == half;
	return size;
}

static void set_halves(pio_gate_search *s)
{
	for (int i = 0; i < s->count; i++)
		s->nodes[i].group = half_of(s, s->split, i);
}

static void push(pio_gate_search *s, int begin, int end)
{
	s->parts[s->part_count++] = (pio_gate_part){ begin, end };
}

/* All six are known: who is in one that is not slow is good. */
static void judge_halves(pio_gate_search *s)
{
	double best = pio_gate_search_best(s);
	int suspects = 0;
	for (int k = 0; k < 6; k++) {
		double busbw = s->halves[k / 2][k % 2];
		bool is_measured = half_size(s, k / 2, k % 2) >= 2;
		for (int i = 0; is_measured && !is_slow(s, busbw, best) && i < s->count; i++)
			if (half_of(s, k / 2, i) == k % 2) {
				s->nodes[i].state = PIO_GATE_GOOD;
				s->nodes[i].busbw = busbw > s->nodes[i].busbw ? busbw : s->nodes[i].busbw;
			}
	}
	for (int i = 0; i < s->count; i++)
		if (s->nodes[i].state == PIO_GATE_UNKNOWN)
			s->suspects[suspects++] = i;
	if (suspects > 0)
		push(s, 0, suspects);
	s->stage = PIO_GATE_PARTS;
}

/* ---- parts ------------------------------------------------------------------------------- */

static int count_good(const pio_gate_search *s)
{
	int good = 0;
	for (int i = 0; i < s->count; i++)
		good += s->nodes[i].state == PIO_GATE_GOOD;
	return good;
}

/* Good nodes into a group, from the partner whose turn it is on. */
static void add_good(pio_gate_search *s, int group, int wanted)
{
	for (int k = 0; k < s->count && wanted > 0; k++) {
		pio_gate_node *node = &s->nodes[(s->partner + k) % s->count];
		if (node->state == PIO_GATE_GOOD && node->group < 0) {
			node->group = group;
			wanted--;
		}
	}
}

/* The next part that can be measured beside or after a control; false: none is left. */
static bool set_part(pio_gate_search *s)
{
	int good = count_good(s);
	if (good < 2 || s->part_count == 0)
		return false;
	pio_gate_part part = s->parts[s->part_count - 1];
	while (part.end - part.begin > good - 1) {
		int middle = part.begin + (part.end - part.begin) / 2;
		s->part_count--;
		push(s, middle, part.end);
		push(s, part.begin, middle);
		part.end = middle;
	}
	int size = part.end - part.begin + 1;
	bool is_beside = good >= size + 1;
	for (int i = part.begin; i < part.end && (is_beside || s->control > 0); i++)
		s->nodes[s->suspects[i]].group = 0;
	if (is_beside || s->control > 0)
		add_good(s, 0, 1);
	if (is_beside || s->control <= 0)
		add_good(s, 1, size);
	return true;
}

static void judge_part(pio_gate_search *s, double busbw, double control)
{
	pio_gate_part part = s->parts[--s->part_count];
	bool slow = is_slow(s, busbw, control);
	int middle = part.begin + (part.end - part.begin) / 2;
	s->control = 0;
	do /* the next good one is another partner */
		s->partner = (s->partner + 1) % s->count;
	while (s->nodes[s->partner].state != PIO_GATE_GOOD);
	if (slow && part.end - part.begin > 1) {
		push(s, middle, part.end);
		push(s, part.begin, middle);
		return;
	}
	for (int i = part.begin; i < part.end; i++) {
		pio_gate_node *node = &s->nodes[s->suspects[i]];
		node->busbw = busbw;
		if (!slow) {
			node->state = PIO_GATE_GOOD;
		} else if (++node->strikes < STRIKES) {
			push(s, part.begin, part.end);
		} else {
			node->state = PIO_GATE_SLOW;
			node->control = control;
			s->slow++;
		}
	}
}

/* ---- rounds -------------------------------------------------------------------------------- */

bool pio_gate_search_next(pio_gate_search *s)
{
	for (int i = 0; i < s->count; i++)
		s->nodes[i].group = -1;
	/* A half of one node is not measured, and of two or three nodes some splits have no other. */
	while (s->stage == PIO_GATE_SPLIT && s->split < 3 && half_size(s, s->split, 0) < 2 &&
	       half_size(s, s->split, 1) < 2)
		s->split++;
	if (s->stage == PIO_GATE_SPLIT && s->split == 3)
		judge_halves(s);
	if (s->stage == PIO_GATE_PARTS && (s->slow > s->most || s->round >= ROUNDS_MAX || !set_part(s)))
		s->stage = PIO_GATE_OVER;
	if (s->stage == PIO_GATE_WHOLE && s->count < 2) { /* nobody is slower than nobody */
		s->nodes[0].state = PIO_GATE_GOOD;
		s->stage = PIO_GATE_OVER;
	}
	for (int i = 0; s->stage == PIO_GATE_WHOLE && i < s->count; i++)
		s->nodes[i].group = 0;
	if (s->stage == PIO_GATE_SPLIT)
		set_halves(s);
	return s->stage != PIO_GATE_OVER;
}

static void take_whole(pio_gate_search *s, double busbw)
{
	bool is_enough = s->count == 2 || (s->expected > 0 && busbw >= s->expected);
	s->whole = busbw;
	s->stage = is_enough ? PIO_GATE_OVER : PIO_GATE_SPLIT;
	for (int i = 0; is_enough && i < s->count; i++) {
		s->nodes[i].state = PIO_GATE_GOOD;
		s->nodes[i].busbw = busbw;
	}
}

void pio_gate_search_take(pio_gate_search *s, const double busbw[2])
{
	s->round++;
	switch (s->stage) {
	case PIO_GATE_WHOLE:
		take_whole(s, busbw[0]);
		break;
	case PIO_GATE_SPLIT:
		for (int half = 0; half < 2; half++)
			s->halves[s->split][half] = half_size(s, s->split, half) >= 2 ? busbw[half] : 0;
		s->split++;
		break;
	case PIO_GATE_PARTS:
		if (pio_gate_search_size(s, 0) == 0)
			s->control = busbw[1];
		else
			judge_part(s, busbw[0], s->control > 0 ? s->control : busbw[1]);
		break;
	case PIO_GATE_OVER:
		break;
	}
}
