#include "client/vote.h"

#include "client/ring_layout.h"

#define LOOK_NS 100000000LL /* again, even if nobody wakes us */

bool pio_vote_ask(pio_ring *ring, int64_t step)
{
	ring_header *header = ring->header;
	int64_t asked = atomic_load(&header->asked);
	uint32_t vote;
	while (step > asked && !atomic_compare_exchange_weak(&header->asked, &asked, step))
		continue;
	while (__builtin_expect((vote = atomic_load(&header->vote)) == PIO_VOTE_HELD, 0))
		ring_futex_wait(&header->vote, PIO_VOTE_HELD, LOOK_NS);
	return vote == PIO_VOTE_GIVEN && step >= atomic_load(&header->stop_step);
}

int64_t pio_vote_hold(pio_ring *ring)
{
	uint32_t open = PIO_VOTE_OPEN;
	atomic_compare_exchange_strong(&ring->header->vote, &open, PIO_VOTE_HELD);
	return atomic_load(&ring->header->asked);
}

static void settle(pio_ring *ring, enum pio_vote vote)
{
	uint32_t held = PIO_VOTE_HELD;
	if (atomic_compare_exchange_strong(&ring->header->vote, &held, vote))
		ring_futex_wake(&ring->header->vote);
}

void pio_vote_give(pio_ring *ring, int64_t step)
{
	if (atomic_load(&ring->header->vote) == PIO_VOTE_HELD)
		atomic_store(&ring->header->stop_step, step);
	settle(ring, PIO_VOTE_GIVEN);
}

void pio_vote_drop(pio_ring *ring)
{
	settle(ring, PIO_VOTE_OPEN);
}

bool pio_vote_is_told(const pio_ring *ring)
{
	const ring_header *header = ring->header;
	return atomic_load(&header->vote) == PIO_VOTE_GIVEN &&
	       atomic_load(&header->asked) >= atomic_load(&header->stop_step);
}
