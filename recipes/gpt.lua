-- The demo: a small language model on real text, from learning rate to width,
-- with two optimizers. Try `pioche plan recipes/gpt.lua` first, and
-- `pioche run recipes/gpt.lua steps=1000 lr=1e-3,3e-3` after.
local pioche = require "pioche"

local gpt = pioche.program {
  command = { "build/gpt" },
  build = { "make", "gpt" },
  sources = { "experiments/gpt", "core/base", "core/sys", "core/client", "Makefile" },
  inputs = { text = "build/data/kjv.txt" },
  env = { OPENBLAS_NUM_THREADS = 1 },
}

return pioche.sweep {
  name = "gpt",
  program = gpt,
  space = {
    width = { 32, 64 },
    heads = 4,
    depth = 2,
    context = 64,
    batch = 16,
    optimizer = pioche.one_of {
      adamw = { lr = { 3e-3, 1e-2 } },
      sgd = { lr = { 0.1, 0.3 } },
    },
    steps = 1000,
    warmup = function(p) return p.steps // 20 end,
    ["eval-every"] = 100,
  },
  goal = pioche.minimize "val/loss",
  launch = { ranks_per_node = 2, parallel = 2 },
  retry = { attempts = 2 },
  keep = { last = 1, best = 1 },
}
