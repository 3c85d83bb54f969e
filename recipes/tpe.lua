-- A search that learns: of sixty runs the Parzen estimator draws most where the better ones
-- were. Parameters of a branch are there where it is taken, and what diverges counts as the
-- worst. The "training" is a function, so that this takes no time; put a pioche.program
-- there, and nothing else changes.
--
--   pioche run recipes/tpe.lua
--   pioche compare tpe                    the best runs, and what they have in common
--   pioche sweep show tpe                 what was proposed, and what came of it
--   pioche sweep replay tpe               that the same seed proposes the same again
local pioche = require "pioche"

-- Like a loss: the best rate depends on the width, and is another for each optimizer.
local function loss(p)
  local best = p.optimizer == "adamw" and -2.6 or -0.9
  local off = math.log(p.lr, 10) - best + 0.3 * math.log(p.width / 128, 2)
  if off > 1.2 then return math.huge end -- it diverges
  local inertia = p.optimizer == "adamw" and 2 * (p["optimizer.beta2"] - 0.98) ^ 2
    or 0.1 + 0.5 * (p["optimizer.momentum"] - 0.9) ^ 2
  return 2 + 1.5 * (p.width / 32) ^ -0.3 + 0.2 * off ^ 2 + inertia
end

return pioche.sweep {
  name = "tpe",
  program = pioche.objective(function(p) return { loss = loss(p) } end),
  space = {
    lr = pioche.log_uniform(1e-5, 1),
    width = pioche.log_int(32, 512),
    optimizer = pioche.one_of {
      adamw = { beta2 = pioche.uniform(0.9, 0.999) },
      sgd = { momentum = pioche.uniform(0, 0.99) },
    },
  },
  goal = pioche.minimize "loss",
  search = pioche.tpe { runs = 60, seed = 1 },
}
