/* state.h: what a checkpoint of the trainer holds.
 *
 * Roles: `model` and `optim.m`, and for adamw `optim.v`, by tensor name; and
 * `extra` with one tensor `state` of int64: format version, step, seed, width,
 * heads, depth, context, optimizer. Data, schedule and sampling are functions
 * of seed and step, so this is all that a bit-exact continuation needs.
 *
 * Rank 0 saves the weights. The optimizer's state is cut into as many runs of
 * parameters as there are ranks, as in ZeRO-1 (Rajbhandari et al., 2020), and
 * each rank saves its own; any number of ranks loads what any number saved. */
#ifndef GPT_STATE_H
#define GPT_STATE_H

#include "model.h"
#include "optim.h"
#include "options.h"

#include "client/pioche.h"

/* Save this rank's part; by all ranks. `optim` and `model` must not change meanwhile. */
int gpt_state_save(pio_run *run, const gpt_options *options, gpt_model *model,
                   const gpt_optim *optim, int64_t step, gpt_err *err);

/* The first parameter of the optimizer's state that is saved by `rank` of so many, and
 * the end of what the rank before saves; rank = writers: the end of all. */
size_t gpt_state_share(size_t parameters, int rank, int writers);

/* Load the checkpoint this attempt starts from into model and optim; with
 * optim NULL the weights alone. GPT_MISTAKE if it is one of another shape. */
int gpt_state_load(pio_run *run, const gpt_options *options, gpt_model *model, gpt_optim *optim,
                   gpt_err *err);

/* Fill width, heads, depth and context of `options` from that checkpoint. */
int gpt_state_shape(pio_run *run, gpt_options *options, gpt_err *err);

#endif
