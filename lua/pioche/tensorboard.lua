-- tensorboard.lua: `pioche export --tensorboard`: runs as event files.
local exchange = require "pioche.core.exchange"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local runs = require "pioche.runs"
local term = require "pioche.term"

local tensorboard = {}

local columns = { "points", "texts", "histograms", "images", "passed_over" }

-- Write these runs below ctx.options.tensorboard. Either none of them is there
-- already, or nothing is written.
function tensorboard.export(ctx, store, ids)
  local dir = ctx.options.tensorboard
  local loaded = runs.load(store, ids, {})
  for _, run in ipairs(loaded) do
    if sys.type(dir .. "/" .. run.name) then
      errors.raise("exists", "%s/%s: exists already", dir, run.name)
    end
  end
  local progress = term.progress("exporting", format.count)
  local list = json.array {}
  if ctx.csv then
    ctx.out(csv.line(table.move(columns, 1, #columns, 3, { "run", "path" })))
  end
  for i, run in ipairs(loaded) do
    local done = errors.check(exchange.export_tensorboard(store.raw, run.id, dir))
    done.id, done.path = run.name, dir .. "/" .. run.name
    list[i] = done
    progress(i, #loaded)
    if ctx.csv then
      local row = { done.id, done.path }
      for _, name in ipairs(columns) do row[#row + 1] = done[name] end
      ctx.out(csv.line(row))
    elseif not ctx.json then
      ctx.out(string.format("%s  %s points, %s texts, %s histograms, %s images%s\n", done.path,
        format.count(done.points), format.count(done.texts), format.count(done.histograms),
        format.count(done.images), done.passed_over > 0
        and "; passed over: " .. format.count(done.passed_over) .. " tables and files" or ""))
    end
  end
  progress()
  if ctx.json then
    ctx.out(ctx.encode(list) .. "\n")
  elseif not ctx.csv then
    ctx.out("see them with:\n  tensorboard --logdir " .. dir .. "\n")
  end
  return 0
end

return tensorboard
