-- weights.lua: checkpoints in a bundle, as directories that loaders of safetensors
-- know, each object once.
local json = require "pioche.core.json"
local errors = require "pioche.errors"
local runs = require "pioche.runs"

local weights = {}

-- ---- which ones -------------------------------------------------------------------

local function best_of(store, run)
  local id = store:checkpoint_best(run.id, runs.metric(store, run.goal_key).key, run.goal)
  return id ~= 0 and id or nil
end

-- Ids by one word of --checkpoints.
local function ids_of(store, run, word)
  if word == "none" then return {} end
  if word == "all" then
    return store:column("SELECT id FROM checkpoint WHERE run_id = ? AND state = 'sealed'"
      .. " ORDER BY step, id", run.id)
  end
  if word == "best" and not run.goal_key then
    errors.raise("invalid", "--checkpoints best: experiment '%s' has no goal; say last",
      run.experiment)
  end
  local id = word == "best" and best_of(store, run) or word == "last" and store:checkpoint_newest(run.id)
  return { id and id ~= 0 and id or nil }
end

local words = { best = true, last = true, all = true, none = true }

-- The words of --checkpoints best,last; nil: not given.
function weights.parse(text)
  if not text then return nil end
  local list = {}
  for word in (text .. ","):gmatch("([^,]*),") do
    if not words[word] then
      errors.raise("usage", "--checkpoints: expected best, last, all or none, or several of them with"
        .. " commas, got '%s'", word)
    end
    list[#list + 1] = word
  end
  return list
end

-- Rows of the checkpoints of a loaded run that the words choose, by step; without
-- words the best, or the newest where there is no goal; and the word for which there
-- is none.
function weights.choose(store, run, chosen)
  local seen, rows, missing = {}, {}, nil
  for _, word in ipairs(chosen or { run.goal_key and "best" or "last" }) do
    local ids = ids_of(store, run, word)
    if #ids == 0 and word ~= "none" then missing = missing or word end
    for _, id in ipairs(ids) do
      if not seen[id] then rows[#rows + 1] = store:one("SELECT * FROM checkpoint WHERE id = ?", id) end
      seen[id] = true
    end
  end
  table.sort(rows, function(a, b)
    if a.step ~= b.step then return a.step < b.step end
    return a.id < b.id
  end)
  return rows, missing
end

-- ---- their files ------------------------------------------------------------------

-- File name of a shard of one role.
local function shard_name(role, i, count)
  local stem = role:gsub("[^%w._-]", "_")
  if count == 1 then return stem .. ".safetensors" end
  return string.format("%s-%05d-of-%05d.safetensors", stem, i, count)
end

-- The checkpoint's files by role, in the order of ranks and parts: { role, files = {...} }.
local function roles_of(store, checkpoint)
  local roles, by_role = {}, {}
  for _, row in ipairs(store:rows("SELECT f.rank, f.role, f.sha256, o.bytes FROM checkpoint_file f"
    .. " JOIN object o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = ?"
    .. " ORDER BY f.role, f.rank, f.part", checkpoint.id)) do
    local group = by_role[row.role]
    if not group then
      group = { role = row.role, files = {} }
      by_role[row.role] = group
      roles[#roles + 1] = group
    end
    table.insert(group.files, row)
  end
  return roles
end

-- `path` as seen from `folder`, which ends in a slash.
local function relative(folder, path)
  local up = ""
  while path:sub(1, #folder) ~= folder do
    folder, up = folder:match("^(.-)[^/]*/$"), up .. "../"
  end
  return up .. path:sub(#folder + 1)
end

-- Index of the Hugging Face layout: which file holds which tensor; nil where one is in parts, which
-- no loader of that layout puts together.
local function index(store, files, places)
  local map, total = {}, 0
  for i, file in ipairs(files) do
    for _, row in ipairs(store:rows("SELECT name, bytes, whole_shape FROM tensor WHERE sha256 = ?"
      .. " ORDER BY name", file.sha256)) do
      if row.whole_shape then return nil end
      if not map[row.name] then map[row.name], total = places[i], total + row.bytes end
    end
  end
  return { metadata = { total_size = total }, weight_map = next(map) and map or json.null }
end

local function add_role(box, store, group, folder)
  local places, elsewhere = {}, false
  for i, file in ipairs(group.files) do
    local wanted = folder .. shard_name(group.role, i, #group.files)
    local path = box:object(wanted, store:object_path(file.sha256), file.sha256, file.bytes)
    places[i] = relative(folder, path)
    elsewhere = elsewhere or path ~= wanted
  end
  if elsewhere or group.role == "model" and #places > 1 then
    local found = index(store, group.files, places)
    if found then box:json(folder .. shard_name(group.role, 1, 1) .. ".index.json", found) end
  end
end

-- The rows of checkpoints, below `folder`: one as that of a bundle of one, several
-- in a folder each.
function weights.add(box, store, checkpoints, folder, weights_only)
  local used = {}
  for _, checkpoint in ipairs(checkpoints) do
    local own = folder
    if #checkpoints > 1 then
      own = ("%scheckpoints/%d"):format(folder, checkpoint.step)
      used[own] = (used[own] or 0) + 1
      own = own .. (used[own] > 1 and "." .. used[own] or "") .. "/"
    end
    box:text(own .. "checkpoint.json", checkpoint.manifest)
    for _, group in ipairs(roles_of(store, checkpoint)) do
      if weights_only == "none" then goto next end -- a remote has them as objects
      if group.role == "model" then
        add_role(box, store, group, own .. "model/")
      elseif not weights_only then
        add_role(box, store, group, own .. "optim/")
      end
      ::next::
    end
  end
end

return weights
