-- A stopping rule of your own: a run goes on while it is among the best quarter that came to
-- the rung, or while its loss still falls. The "training" is a function, so that this takes no
-- time; put a pioche.program there, and nothing else changes.
--
--   pioche run recipes/own_rule.lua
--   pioche sweep show own-rule            what the rule said, and of which runs
--
-- A rule decides by its arguments alone: what it knew is on record, and an interrupted sweep
-- goes on as it would have. `pioche help recipe stop` tells what it is given.
local pioche = require "pioche"

local function decide(_run, _rung, at, earlier)
  local better = 0
  for _, other in ipairs(earlier) do
    if other.loss < at.loss then better = better + 1 end
  end
  if better <= #earlier / 4 then return "go", "among the best quarter" end
  if at.loss > 0.75 * at.mean then return "stop", "it hardly falls any more" end
  return "go", "it still falls"
end

return pioche.sweep {
  name = "own-rule",
  program = pioche.objective(function(p)
    local loss = {}
    for step = 1, 80 do loss[step] = p.floor + (1 - p.floor) * (1 - p.speed) ^ step end
    return { loss = loss }
  end),
  space = { floor = pioche.uniform(0.1, 0.5), speed = pioche.uniform(0.01, 0.3) },
  goal = pioche.minimize "loss",
  search = pioche.random { runs = 40, seed = 2 },
  stop = pioche.rule { rungs = { 10, 20, 40 }, decide = decide },
}
