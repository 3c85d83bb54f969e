-- query/manual.lua: the text of `pioche help query`.
local field = require "pioche.query.field"
local term = require "pioche.term"

local head = [[
A query says which runs. It is one argument, quoted for the shell, of `ls`,
`compare`, `chart`, `stop`, `export`, `note` and `tag`:

  pioche ls 'lr > 1e-3 and val/loss.min < 2 or tag.phase = "ablation"'

An argument that holds a space, a quote, a bracket, a comma or one of = < > ~ !
is a query; every other names a run or an experiment. Names say among which
runs; several queries must all hold.

grammar
  query    = [ filter ] [ "sort" "by" key { "," key } ] [ "limit" NUMBER ]
  filter   = both { "or" both }
  both     = one { "and" one }
  one      = "not" one | "(" filter ")" | "has" "(" NAME ")"
           | NAME ( "=" | "!=" | "<" | "<=" | ">" | ">=" | "~" | "!~" ) VALUE
           | NAME [ "not" ] "in" "(" VALUE { "," VALUE } ")"
  key      = NAME [ "asc" | "desc" ]

  `not` binds tightest, then `and`, then `or`. There is no arithmetic: val/loss,
  grad-norm and step_ms@max are names.

names
  A field of the run (below), else a parameter or a metric of that name; where
  there are both, say param.lr or metric.lr. tag.NAME is a tag, run.FIELD a field.
  What a program said at its end is found by its name, too.
  A metric is its last value, or KEY.min .max .mean .count .first_step .last_step;
  rank 0 (or the lowest that logged it), or KEY@rank=371, or over all ranks
  KEY@mean @max @min @argmax (the rank of the largest): step_ms@max.mean.
  A name with odd characters, or one that ends like a reduction or a statistic,
  is quoted: "my key" > 3, metric."odd@mean".min < 2.

values
  Numbers, inf, nan, true, false; everything else is text, quoted where it holds
  odd characters, or where a number is meant as text: precision in (16, "16").
  \" and \\ inside quotes. In a time field 3d is the moment 3 days ago, so that
  created > 3d means within the last 3 days and created < 3d before that; also
  today, yesterday, 2026-11-01 (the whole day) and 2026-11-01T12:30, all UTC.
  Durations are 250ms, 90s, 5m, 2h, 3d, 1w, 1h30m; for age and duration a number
  means seconds.

rules
  Numbers compare with numbers, texts with texts (byte by byte), true and false
  with those; a value of another kind is not equal, and neither above nor below.
  ~ means: the text contains this, upper and lower case of a-z alike; * stands for
  any text and ? for any character in it, \* and \? for themselves; !~: it does not.
  A comparison is false for a run that has no such value, != and !~ too; `not` is
  everything else: `lr != 1` is the runs with another lr, `not lr = 1` also those
  without one. has(lr) asks for the value itself.
  nan = nan; it is neither above nor below anything, and != to every number.
  Sorting puts runs without the value last.

fields
]]

local tail = [[

examples
  pioche ls 'status in (failed, lost) and created > 3d'
  pioche ls 'commit ~ "fix" and not has(val/loss)'
  pioche compare 'width >= 64 and optimizer = adamw' --sort 'lr desc'
  pioche chart gpt 'sort by val/loss limit 5' -m train/loss
  pioche stop 'status = running and train/loss@max > 10'
]]

-- The whole text.
return function()
  local lines = {}
  for _, name in ipairs(field.names) do
    local f = field.all[name]
    if name ~= "host" then
      local kind = f.type == "status" and "word" or f.type == "result" and "word"
        or f.type == "commit" and "text" or f.type
      lines[#lines + 1] = "  " .. term.pad(name, 12) .. term.pad(kind, 10) .. f.help
    end
  end
  for i, line in ipairs(lines) do lines[i] = line:gsub("%s+$", "") end
  return head .. table.concat(lines, "\n") .. "\n" .. tail
end
