/* state.h: what a checkpoint of the trainer holds.
 *
 * Roles: `model` and `optim.m`, and for adamw `optim.v`, by tensor name; and
 * `extra` with one tensor `state` of int64: format version, step, seed, width,
 * heads, depth, context, optimizer. Data, schedule and sampling are functions
 * of seed and step, so this is all that a bit-exact continuation needs. */
#ifndef GPT_STATE_H
#define GPT_STATE_H

#include "model.h"
#include "optim.h"
#include "options.h"

#include "client/pioche.h"

/* Save; by rank 0 alone. `optim` and `model` must not change meanwhile. */
int gpt_state_save(pio_run *run, const gpt_options *options, gpt_model *model,
                   const gpt_optim *optim, int64_t step, gpt_err *err);

/* Load the checkpoint this attempt starts from into model and optim; with
 * optim NULL the weights alone. GPT_MISTAKE if it is one of another shape. */
int gpt_state_load(pio_run *run, const gpt_options *options, gpt_model *model, gpt_optim *optim,
                   gpt_err *err);

/* Fill width, heads, depth and context of `options` from that checkpoint. */
int gpt_state_shape(pio_run *run, gpt_options *options, gpt_err *err);

#endif
