-- checkpoint pin, unpin and verify.
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local format = require "pioche.format"
local term = require "pioche.term"

local care = {}

-- Do `act(row)` with each that is named, and tell the word and the sentence that it
-- returns.
local function each(ctx, store, words, act)
  local rows, list = {}, json.array {}
  for i, word in ipairs(words) do rows[i] = checkpoints.find(store, word) end
  if ctx.csv then ctx.out(csv.line { "checkpoint", "id", "done" }) end
  for i, row in ipairs(rows) do
    local done, sentence = act(row)
    list[i] = { id = row.sha256, name = row.name, done = done }
    if ctx.csv then
      ctx.out(csv.line { row.name, row.sha256, done })
    elseif not ctx.json then
      ctx.out(row.name .. " " .. sentence .. "\n")
    end
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
end

function care.pin(ctx, words)
  local store = ctx.writing()
  each(ctx, store, words, function(row)
    store:checkpoint_pin(row.id, ctx.options.reason)
    return "pinned", "is pinned"
  end)
  return 0
end

function care.unpin(ctx, words)
  local store = ctx.writing()
  each(ctx, store, words, function(row)
    store:checkpoint_unpin(row.id)
    return "unpinned", row.pinned and "is pinned no more" or "was not pinned"
  end)
  return 0
end

function care.verify(ctx, words)
  local store = ctx.reading()
  local damaged = false
  each(ctx, store, words, function(row)
    local findings = {}
    local progress = term.progress("reading " .. row.name, format.bytes)
    local result = store:verify { checkpoint = row.id, report = function(finding, done, total)
      if finding then findings[#findings + 1] = finding.object:sub(1, 16) .. " " .. finding.what end
      progress(done, total)
    end }
    progress()
    if #findings == 0 then
      return "good", ("is good: %d files, %s, every byte read"):format(result.objects,
        format.bytes(result.bytes))
    end
    damaged = true
    return "damaged", "is damaged: " .. table.concat(findings, "; ")
  end)
  return damaged and 1 or 0
end

return care
