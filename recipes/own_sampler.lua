-- A search of your own: simulated annealing. From where it stands it takes a step, the
-- shorter the later; a step that is worse is kept now and then, the more rarely the later. The
-- "training" is a function, so that this takes no time; put a pioche.program there, and
-- nothing else changes.
--
--   pioche run recipes/own_sampler.lua
--   pioche sweep show own-sampler         what was proposed, and what came of it
--   pioche sweep replay own-sampler       that the same proposals come again
--
-- A search goes by its arguments alone, draws by draw.uniform: an interrupted sweep goes on as
-- it would have, whatever runs at once. `pioche help recipe search` tells what it is given.
local pioche = require "pioche"

local runs = 120
local heat = 0.1               -- how much worse a step may be in the beginning, about

-- Where it stands after all that is known: each result in turn is a step, or is none.
local function stand(known, draw)
  local at
  for _, run in ipairs(known) do
    local worse = run.loss and at and run.loss - at.loss or 0
    local now = heat * (1 - run.number / runs) + 1e-9
    local chance = math.exp(-math.max(worse, 0) / now)
    if run.loss and draw.uniform("step " .. run.number) < chance then at = run end
  end
  return at
end

local function propose(known, draw)
  local at = stand(known, draw)
  if not at then return nil end -- a random point
  local reach, point = 1.2 * (1 - draw.number / runs) ^ 2 + 0.02, {}
  for _, name in ipairs { "x", "y" } do
    local moved = at.params[name] + reach * (2 * draw.uniform(name) - 1)
    point[name] = math.max(-2, math.min(2, moved))
  end
  return point
end

return pioche.sweep {
  name = "own-sampler",
  program = pioche.objective(function(p)
    local bend = p.y - p.x ^ 2
    return { loss = bend ^ 2 + 0.1 * (1 - p.x) ^ 2 + 0.05 * (1 - math.cos(9 * (p.x - 1))) }
  end),
  space = { x = pioche.uniform(-2, 2), y = pioche.uniform(-2, 2) },
  goal = pioche.minimize "loss",
  search = pioche.sampler { runs = runs, seed = 1, propose = propose },
}
