-- none: let every run go to its end.
--
-- A stopping rule is { name, summary, schema, check(where, given) -> options, new(options, goal) };
-- new gives an object with
--   next_rung(self, step)   the first rung above `step`, nil when there is none
--   decide(self, run, rung, value) -> "go" or "stop", asked once a run and rung
local fields = require "pioche.fields"

local none = { name = "none", summary = "let every run go to its end" }

none.schema = {}

function none.check(where, given)
  return fields.check(where, given, none.schema)
end

function none.new()
  local rule = {}
  rule.next_rung = function() return nil end
  rule.decide = function() return "go" end
  return rule
end

return none
