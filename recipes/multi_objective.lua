-- Two goals that pull apart, and a limit: how good a language model can be, how fast it answers,
-- and that its training fits a GPU of 80 GB. There is no best run then, but a front: the runs
-- that nothing beats in both. The "training" is a formula of what is known of such models, so
-- that this takes a second; put a pioche.program there that logs the same three, and nothing
-- else changes.
--
--   pioche run recipes/multi_objective.lua
--   pioche sweep front multi-objective         the front: pick what you can afford
--   pioche sweep show multi-objective          how many fit, and whether more runs would help
--   pioche sweep importance multi-objective    which parameters lead to the front
--   pioche compare multi-objective             the front and what violates the limit are marked
--
-- `search` might be left out, too: with several goals a Parzen estimator is chosen where runs
-- are few, and NSGA-II where there are many (`pioche plan` says which, and why).
local pioche = require "pioche"

-- The loss of a model with so many parameters after so many tokens (Hoffmann et al.,
-- arXiv:2203.15556), and what a learning rate that is off the best one costs.
local function loss(parameters, tokens, lr)
  local best_lr = 1.79 * parameters ^ -0.713 * tokens ^ 0.307 -- Step Law, arXiv:2503.04715
  local off = math.log(lr / best_lr)
  return 1.69 + 406.4 / parameters ^ 0.34 + 410.7 / tokens ^ 0.28 + 0.02 * off * off
end

return pioche.sweep {
  name = "multi-objective",
  program = pioche.objective(function(p)
    local parameters = 12 * p.depth * p.width ^ 2
    return {
      ["val/loss"] = loss(parameters, 2e10, p.lr),
      latency_ms = 2 * parameters / 1.5e12 * 1000 + 0.05 * p.depth, -- weights read once, and launches
      memory_gb = (parameters * 16 + p.batch * 2048 * p.width * p.depth * 34) / 1e9,
    }
  end),
  space = {
    width = { 512, 1024, 2048, 4096, 8192 },
    depth = pioche.int(8, 64),
    batch = { 1, 2, 4, 8 },
    lr = pioche.log_uniform(1e-5, 1e-2),
  },
  goal = { pioche.minimize "val/loss", pioche.minimize "latency_ms" },
  constraints = pioche.constraint(function(m) return m.memory_gb - 80 end), -- 0 or less is fine
  search = pioche.auto { runs = 120, seed = 1 },
}
