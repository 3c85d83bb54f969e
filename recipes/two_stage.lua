-- Science that branches on results: sweep small models, then train the best
-- one longer and wider, then go on from its checkpoint with a lower rate.
--
-- A function recipe runs from its top each time; whatever is finished already
-- is looked up, not run again. `pioche plan` follows it as far as results are
-- known. The text is the demo's: `make demo` fetches it.
local pioche = require "pioche"

local gpt = pioche.program {
  command = { "build/gpt" },
  build = { "make", "gpt" },
  sources = { "experiments/gpt", "core/base", "core/sys", "core/client", "Makefile" },
  inputs = { text = "build/data/kjv.txt" },
  env = { OPENBLAS_NUM_THREADS = 1 },
}

local small = pioche.sweep {
  name = "two-stage-small",
  program = gpt,
  space = {
    lr = { 1e-3, 3e-3, 1e-2 },
    width = 32, heads = 2, depth = 1, context = 32, batch = 8, steps = 60, ["eval-every"] = 20,
  },
  goal = pioche.minimize "val/loss",
  launch = { parallel = 2 },
}

return function(lab)
  local best = lab:sweep(small):best()
  lab:note("the best rate of the small models is " .. best.params.lr)

  local big = lab:run {
    name = "two-stage-big",
    program = gpt,
    params = best.params:with { width = 64, heads = 4, steps = 120 },
  }

  local tuned = lab:run {
    name = "two-stage-tuned",
    program = gpt,
    from = big:checkpoint "last",
    params = big.params:with { lr = best.params.lr / 10, steps = 160 },
  }
  lab:note(("validation loss: big %.3f, tuned %.3f"):format(big:metric("val/loss"),
    tuned:metric("val/loss")))
end
