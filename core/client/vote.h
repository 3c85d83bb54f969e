/* vote.h: at which step all ranks of an attempt end.
 *
 * A rank that leaves its loop one step before another leaves that one waiting in a
 * collective for ever. So nobody ends when he hears of it: all end at one step S. Each
 * rank asks before it goes on from a step (pio_should_stop), and its ring has three
 * words: `asked`, the highest step that it asked about; `vote`; and `stop_step`.
 *
 *   OPEN --hold--> HELD --give S--> GIVEN      every answer is: step >= S
 *    ^               |
 *    '-----drop------'                         the ranks get SIGTERM instead
 *
 * To end an attempt its agents hold the rings of all its ranks and read what these have
 * asked; with one node the agent, else the head, adds one to the highest and gives it to
 * all. While its ring is held a rank that asks waits; else it is answered 0 at once.
 *
 * Why all end at one step: let rank r be answered 0 about step k while its ring is OPEN.
 * It stores `asked` >= k, then loads OPEN; whoever holds stores HELD, then loads
 * `asked`. All four are sequentially consistent, and the rank saw OPEN, so its store came
 * before that load: k was counted, and S > k. So S lies beyond every step that any rank
 * has passed, and an answer from GIVEN compares with S alone. Ranks that ask about the
 * same growing steps hear 1 for the first time at the same one. (Where steps start anew
 * they may all pass without reaching S, and get SIGTERM in the end; never one without
 * the other.)
 *
 * Why nobody waits for ever: a rank waits for its agent alone, and that for the head,
 * never for a rank, however slow or dead. The head gives up on a node that does not
 * answer within seconds; an agent that loses its head, hears nothing from it for half a
 * minute, or has to send a signal, drops what it holds first; ranks whose agent and
 * keeper are dead are dead, too. */
#ifndef PIO_CLIENT_VOTE_H
#define PIO_CLIENT_VOTE_H

#include <stdbool.h>
#include <stdint.h>

#include "client/ring.h"

enum pio_vote { PIO_VOTE_OPEN, PIO_VOTE_HELD, PIO_VOTE_GIVEN };

/* ---- the rank's side; any thread ------------------------------------------- */
bool pio_vote_ask(pio_ring *ring, int64_t step);

/* ---- the agent's side ------------------------------------------------------- */
/* The highest step asked about; INT64_MIN: the rank has never asked. */
int64_t pio_vote_hold(pio_ring *ring);
/* What is held; else nothing happens. */
void pio_vote_give(pio_ring *ring, int64_t step);
void pio_vote_drop(pio_ring *ring);
/* It has been answered 1, or is about to. */
bool pio_vote_is_told(const pio_ring *ring);

#endif
