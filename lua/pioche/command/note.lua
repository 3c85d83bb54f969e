-- note: what a person has to say of a run, added whenever it comes to mind.
local json = require "pioche.core.json"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local query = require "pioche.query"
local runs = require "pioche.runs"

local text_max = 65536

local function check_text(text)
  if not text:find("%S") then errors.raise("usage", "note: the text is empty") end
  if #text > text_max then
    errors.raise("usage", "note: a text of %d bytes: at most %d are taken", #text, text_max)
  end
  if text:find("\0", 1, true) or not utf8.len(text) then
    errors.raise("usage", "note: expected a text of UTF-8, without NUL")
  end
end

local function run(ctx)
  local words = { table.unpack(ctx.args, 1, #ctx.args - 1) }
  local text = ctx.args[#ctx.args]
  check_text(text)
  local store = ctx.writing()
  local ids = query.choose(store, words, {})
  if #ids == 0 then errors.raise("not_found", "note: no run matches") end
  local loaded = runs.load(store, ids)
  store:begin()
  for _, found in ipairs(loaded) do store:event(found.id, { kind = "note", message = text }) end
  store:commit()
  local list = json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "note" }) end
  for i, found in ipairs(loaded) do
    list[i] = { id = found.name, note = text }
    if ctx.csv then ctx.out(csv.line { found.name, text }) end
  end
  if ctx.json then
    ctx.out(ctx.encode(list) .. "\n")
  elseif not ctx.csv then
    ctx.out(#loaded == 1 and loaded[1].name .. " is noted\n" or #loaded .. " runs are noted\n")
  end
  return 0
end

return {
  summary = "write a note on runs",
  usage = "note RUN|EXPERIMENT|QUERY... TEXT",
  help = [[
The last argument is the text. A note is kept with its time; a run may have many,
at any time, also while it is going. `pioche show` and `pioche ls --notes` show
them, and queries find them: 'note ~ "diverges"'.

JSON: an array of {id, note}.]],
  options = {},
  examples = "pioche note gpt-17 'warm-up was too short'\n"
    .. "pioche note 'lr > 1e-2 and status = failed' 'all of these diverge'",
  args = { 2, nil, what = "a RUN and a text" },
  run = run,
}
