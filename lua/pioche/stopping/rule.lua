-- rule: a recipe's own rule: the rungs, and a function that decides at each.
--
-- The function is the recipe's and runs in its sandbox; it is given what every rule is
-- (none.lua) and may keep none of it. Where a supervisor goes on with the runs of a sweep
-- and has no recipe, it is not asked, and they go to their end.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local rungs = require "pioche.rungs"
local space = require "pioche.space"

local rule = { name = "rule", summary = "a function of the recipe decides" }

local function steps(value)
  local expected = "a list of steps that grow, as { 50, 100, 200 }"
  if type(value) ~= "table" or rawlen(value) == 0 then return nil, expected end
  local list = {}
  for i = 1, rawlen(value) do
    list[i] = fields.kinds.positive(rawget(value, i))
    if not list[i] or (i > 1 and list[i] <= list[i - 1]) then return nil, expected end
  end
  return list
end

rule.schema = {
  rungs = { kind = steps, required = "the steps at which decide is asked, as rungs = { 50, 100, 200 }",
    help = "the steps at which decide is asked" },
  decide = { kind = "function",
    required = "a function(run, rung, at, earlier) that returns \"go\" or \"stop\"",
    help = "function(run, rung, at, earlier): \"go\" or \"stop\", and why; run has number, params and seed;"
      .. " its curve is a list of { step, loss }; at has loss, best and mean, the lower the better; earlier"
      .. " is a list of those that came there before, each with its verdict" },
}

-- Options are on record, so what of them is a function is kept apart: { box, at, decide }.
local functions = setmetatable({}, { __mode = "k" })

function rule.check(where, given)
  local checked = fields.check(where, given, rule.schema)
  local options = { rungs = checked.rungs, decide = space.function_digest(where.box, checked.decide) }
  functions[options] = { box = where.box, at = where.at, decide = checked.decide }
  return options
end

local function copy(item)
  local result = {}
  for name, value in next, item do result[name] = value end
  return result
end

local function decide(own, run, rung, at, earlier)
  local list = {}
  for i, other in ipairs(earlier) do list[i] = copy(other) end
  local known = { number = run.number, params = copy(run.params), seed = run.seed, curve = {} }
  for i, item in ipairs(run.curve) do known.curve[i] = copy(item) end
  local box = own.box
  local left = box.left
  box.left = box.budget -- of instructions, for each decision
  local ok, verdict, why = box:try(own.decide, known, rung, copy(at), list)
  box.left = left
  if not ok then errors.raise(verdict.code, "%s (in stop.decide)", verdict.message) end
  if verdict ~= "go" and verdict ~= "stop" then
    own.box:blame(own.at, "stop.decide", "the function returned %s: expected \"go\" or \"stop\"",
      fields.show(verdict))
  end
  return verdict, type(why) == "string" and why:match("[^\n]*") or nil
end

function rule.new(options)
  local own = functions[options]
  return {
    next_rung = function(_, _, step)
      return own and rungs.next(options.rungs, step)
    end,
    decide = function(_, run, rung, at, earlier)
      return decide(own, run, rung, at, earlier)
    end,
  }
end

return rule
