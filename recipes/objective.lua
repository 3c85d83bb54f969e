-- objective: sweep over a function of the recipe itself. Nothing is launched and no code
-- is taken along: for cheap functions, for models of what a run would cost, and to try
-- out a search before machines are paid for.
--
--   pioche run recipes/objective.lua && pioche compare branin
local pioche = require "pioche"

-- Branin: three minima of 0.397887.
local function branin(x, y)
  local bow = y - 5.1 / (4 * math.pi ^ 2) * x ^ 2 + 5 / math.pi * x - 6
  return bow ^ 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
end

return pioche.sweep {
  name = "branin",
  -- The second argument is the run's number; with `seeds` there is p.seed, too.
  program = pioche.objective(function(p)
    return { loss = branin(p.x, p.y), distance = math.abs(p.x - math.pi) }
  end),
  space = { x = pioche.uniform(-5, 10), y = pioche.uniform(0, 15) },
  goal = pioche.minimize "loss",
  search = pioche.tpe { runs = 60, seed = 1 },
}
