-- Sixteen learning rates of the small language model, of which only the good ones are trained
-- to the end: at 125, 375 and 1125 steps the best third goes on, and the others stop. Each that
-- is stopped says at which rung, and how it ranked there.
--
--   pioche run recipes/asha.lua
--   pioche ls asha                        who was stopped, and why
--   pioche sweep show asha                what came to each rung
local pioche = require "pioche"

local gpt = pioche.program {
  command = { "build/gpt" },
  build = { "make", "gpt" },
  sources = { "experiments/gpt", "core/base", "core/sys", "core/client", "Makefile" },
  inputs = { text = "build/data/kjv.txt" },
  env = { OPENBLAS_NUM_THREADS = 1 },
}

return pioche.sweep {
  name = "asha",
  program = gpt,
  space = {
    width = 32, heads = 4, depth = 2, context = 32, batch = 8, steps = 2000, warmup = 50,
    optimizer = "adamw",
    lr = pioche.log_uniform(1e-4, 1),
    ["eval-every"] = 125,
  },
  goal = pioche.minimize "val/loss",
  search = pioche.random { runs = 16, seed = 1 },
  stop = pioche.asha { by = "step", min = 125, max = 2000, eta = 3 },
  launch = { parallel = 2 },
}
