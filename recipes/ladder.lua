-- A ladder of sizes: small models first, and from them what a larger one will come to.
--
-- Each size is trained on each number of tokens. As soon as the points are enough for the law
-- L(N, D) = E + A N^-alpha + B D^-beta, each next size is predicted, with an interval, before it
-- runs, and when it ends it is seen how wrong that was. Then `pioche sweep show` tells of a larger
-- budget C = 6 N D, in FLOP, which N and D make the most of it: worth knowing before it is paid for.
--
--   pioche run recipes/ladder.lua
--   pioche sweep show ladder              the law, the frontier, predictions and what came
--
-- The models are tiny, so that a laptop does this in less than a minute; the last one tells how
-- far such predictions carry. With budgets = { 1e11, 3e11 } in place of tokens each size gets
-- what a budget pays for, and the best size of each budget is found by parabolas, too.
local pioche = require "pioche"

local gpt = pioche.program {
  command = { "build/gpt" },
  build = { "make", "gpt" },
  sources = { "experiments/gpt", "core/base", "core/sys", "core/client", "Makefile" },
  inputs = { text = "build/data/kjv.txt" },
  env = { OPENBLAS_NUM_THREADS = 1 },
}

return pioche.ladder {
  name = "ladder",
  program = gpt,
  goal = pioche.minimize "val/loss",
  sizes = {
    { width = 8, heads = 2 }, { width = 12, heads = 2 }, { width = 16, heads = 2 }, { width = 24, heads = 2 },
    { width = 32, heads = 4 },
  },
  -- Without the embeddings, as in the papers: they do not grow with the rest.
  params = function(p) return 12 * p.depth * p.width ^ 2 end,
  tokens = { 40000, 80000, 160000 },
  space = {
    depth = 2, context = 32, batch = 8, optimizer = "adamw",
    lr = function(p) return 0.08 / p.width ^ 0.5 end,           -- wider models want smaller steps
    steps = function(p) return p.tokens // (p.batch * p.context) end,
    warmup = function(p) return p.steps // 20 end,
    ["eval-every"] = 0, ["eval-batches"] = 32, ["log-every"] = 10,
    ["sample-bytes"] = 0,
  },
  launch = { parallel = 2 },
}
