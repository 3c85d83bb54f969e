-- pbt: eight members train side by side; every 25 steps one of the worst becomes a copy of
-- one of the best, with its checkpoint, and goes on with another rate.
--
--   pioche run recipes/pbt.lua
--   pioche sweep show quadratic      -- who copied whom, and what it changed
--
-- Of the program (experiments/noisy_quadratic/train.py) the best rate falls with time, so that
-- the population ends lower than any constant rate does. Each stretch of 25 steps is a run of
-- its own, which grew from the checkpoint of the one before: `until` tells it where to end.
local pioche = require "pioche"

return pioche.sweep {
  name    = "quadratic",
  goal    = pioche.minimize "loss",
  program = pioche.program {
    command = { "python3", "experiments/noisy_quadratic/train.py" },
    sources = { "experiments/noisy_quadratic" },
  },
  space   = { lr = pioche.log_uniform(1e-3, 0.5) },
  search  = pioche.pbt { population = 8, interval = 25, steps = 200, spread = 0.5 },
  launch  = { parallel = 2, telemetry = false, share_code = true },
}
