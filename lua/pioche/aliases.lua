-- aliases.lua: a project's own verbs: words of a command line that it writes often.
--
--   return { aliases = { best = { "ls", "status = finished", "--sort", "val/loss" } } }
--
-- in pioche.lua makes `pioche best` that line; what follows `best` follows its words.
-- An alias is no other's beginning, and none hides a verb of pioche.
local fields = require "pioche.fields"
local sys = require "pioche.core.sys"

local kinds = fields.kinds

local aliases = {}

-- What `aliases` may be in a project's file; `is_verb(word)` knows pioche's own.
function aliases.kind(is_verb)
  return function(value)
    local expected = "names of verbs with the words they stand for, as { best = { \"ls\", \"--sort\","
      .. " \"val/loss\" } }"
    if type(value) ~= "table" or rawlen(value) > 0 then return nil, expected end
    local list = {}
    for _, name in ipairs(fields.sorted(value)) do
      local words, why = kinds.words(rawget(value, name))
      if type(name) ~= "string" or not name:find("^%l[%l%d_-]*$") then
        return nil, expected .. "; a name is lower-case letters, digits, '_' and '-'"
      elseif is_verb(name) then
        return nil, ("%s; %s is a verb already"):format(expected, name)
      elseif not words then
        return nil, ("for %s %s"):format(name, why)
      elseif not is_verb(words[1]) then
        return nil, ("for %s a verb first, got %s"):format(name, fields.show(words[1]))
      end
      list[name] = words
    end
    return list
  end
end

-- Of the project whose store this is; {} where it has none, or no file.
function aliases.of(store_path)
  if not store_path then return {} end
  local absolute = store_path:sub(1, 1) == "/" and store_path or sys.cwd() .. "/" .. store_path
  return require "pioche.project".load(absolute:match("^(.*)/[^/]+/*$")).aliases or {}
end

return aliases
