-- tag: set, change and remove tags of runs; what they were stays on record.
local json = require "pioche.core.json"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local query = require "pioche.query"
local runs = require "pioche.runs"

-- NAME=VALUE or NAME-, as { name, value }; nil for another word.
local function change_of(store, word)
  local name, value = word:match("^([%w_./:@%-\x80-\xff]+)=(.*)$")
  if name then return { name = name, value = value } end
  name = word:match("^([%w_./:@%-\x80-\xff]+)%-$")
  if name and not runs.only_experiments(store, { word }) then return { name = name } end
  return nil
end

-- The words before the first change choose runs; only changes come after it.
local function split(store, args)
  local words, changes = {}, {}
  for _, arg in ipairs(args) do
    local change = change_of(store, arg)
    if change then
      if change.value and not utf8.len(change.value) then
        errors.raise("usage", "tag: the value of '%s' is not UTF-8", change.name)
      end
      changes[#changes + 1] = change
    elseif #changes > 0 then
      errors.raise("usage", "tag: expected NAME=VALUE or NAME- after %s, got '%s'",
        changes[#changes].name .. (changes[#changes].value and "=" or "-"), arg)
    else
      words[#words + 1] = arg
    end
  end
  if #changes == 0 then
    errors.raise("usage", "tag: expected NAME=VALUE, or NAME- to remove it, as the last argument")
  elseif #words == 0 then
    errors.raise("usage", "tag: expected a RUN, an EXPERIMENT or a QUERY (with spaces, as 'lr = 1')"
      .. " before %s", args[1])
  end
  return words, changes
end

-- What the event says; nil when nothing changes.
local function account(old, new)
  if old == new then return nil end
  if not old then return string.format('set to "%s"', new) end
  return new and string.format('"%s" became "%s"', old, new) or string.format('"%s" was removed', old)
end

local function apply(store, found, change)
  local message = account(found.tags[change.name], change.value)
  if not message then return end
  if change.value then
    store:tag_set(found.id, change.name, change.value)
  else
    store:tag_remove(found.id, change.name)
  end
  store:event(found.id, { kind = "tag", key = change.name, message = message })
  found.tags[change.name] = change.value
end

local function run(ctx)
  local store = ctx.writing()
  local words, changes = split(store, ctx.args)
  local ids = query.choose(store, words, {})
  if #ids == 0 then errors.raise("not_found", "tag: no run matches") end
  store:begin()
  local loaded = runs.load(store, ids, { tags = true })
  for _, found in ipairs(loaded) do
    for _, change in ipairs(changes) do apply(store, found, change) end
  end
  store:commit()
  local list = json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "tag", "value" }) end
  for i, found in ipairs(loaded) do
    list[i] = { id = found.name, tags = found.tags }
    for _, change in ipairs(changes) do
      if ctx.csv then ctx.out(csv.line({ found.name, change.name, found.tags[change.name] }, 3)) end
    end
  end
  if ctx.json then
    ctx.out(ctx.encode(list) .. "\n")
  elseif not ctx.csv then
    ctx.out(#loaded == 1 and loaded[1].name .. " is tagged\n" or #loaded .. " runs are tagged\n")
  end
  return 0
end

return {
  summary = "set or remove tags of runs",
  usage = "tag RUN|EXPERIMENT|QUERY... NAME=VALUE|NAME-...",
  help = [[
NAME=VALUE sets a tag, NAME- removes it; both come after the runs, and so a
QUERY is written with spaces here, as 'lr = 1'. What a tag was before stays on
record as an event (`pioche show RUN --events`). Queries find tags by
tag.NAME = VALUE and has(tag.NAME).

JSON: an array of {id, tags{}}.]],
  options = {},
  examples = "pioche tag gpt-17 phase=ablation owner=ada\npioche tag gpt 'val/loss > 2' keep-",
  args = { 2, nil, what = "a RUN and NAME=VALUE or NAME-" },
  run = run,
}
