-- code.lua: the code of runs in a bundle: as a git bundle, and as the files
-- themselves (pioche.bag says where).
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local errors = require "pioche.errors"
local records = require "pioche.bag.records"
local term = require "pioche.term"

local code = {}
local check = errors.check

local link = 0xA000   -- 0120000, the mode of a symbolic link

-- The snapshots of loaded runs, each once, in the order of the runs: those whose
-- commit its repository still has. What is wrong with others is told.
local function snapshots_of(box, store, loaded)
  local list, seen = {}, {}
  for _, run in ipairs(loaded) do
    if run.commit and not seen[run.commit] then
      seen[run.commit] = true
      local row = store:one("SELECT * FROM snapshot WHERE commit_id = ?", run.commit)
      local text, message = git.commit_text(row.repository, row.commit_id)
      if text then
        row.object = text
        list[#list + 1] = row
      else
        box.note("the code of " .. run.name .. " is left out: " .. message .. "\n")
      end
    end
  end
  return list
end

-- What no bag can hold.
local function tell_odd(box, odd, one, many)
  if #odd == 0 then return end
  box.note(("%d %s of the code %s in code.bundle alone, no bag can hold %s: %s%s\n"):format(#odd,
    #odd == 1 and one or many, #odd == 1 and "is" or "are", #odd == 1 and "it" or "them",
    term.clean(table.concat(odd, ", ", 1, math.min(3, #odd))), #odd > 3 and ", ..." or ""))
end

local function add_files(box, row, folder)
  local links = {}
  local odd = box:made_files(function(fd)
    return check(git.files(row.repository, row.commit_id, fd))
  end, function(file)
    if file.mode ~= link then return folder .. file.path end
    links[#links + 1] = file.path
  end)
  tell_odd(box, links, "symbolic link", "symbolic links")
  tell_odd(box, odd, "name", "names")
end

local function add_patch(box, row, path)
  local patch, message = git.diff_parent(row.repository, row.commit_id)
  if patch then
    box:text(path, patch)
  else
    box.note(path .. " is left out: " .. message .. "\n")
  end
end

-- `history`: all that led to the commits, too.
function code.add(box, store, loaded, history)
  local list, sources, single = snapshots_of(box, store, loaded), {}, #loaded == 1
  if #list == 0 then return end
  for i, row in ipairs(list) do
    sources[2 * i - 1], sources[2 * i] = row.repository, row.commit_id
  end
  box:made("code.bundle", function(fd) check(git.bundle(sources, fd, history)) end)
  local trees, public = {}, json.array {}
  for i, row in ipairs(list) do
    local short = row.commit_id:sub(1, 12)
    if not trees[row.tree_id] then
      trees[row.tree_id] = single and "code/" or "code/" .. short .. "/"
      add_files(box, row, trees[row.tree_id])
    end
    add_patch(box, row, single and "run/git.diff" or "code/" .. short .. ".diff")
    row.files, row.ref = trees[row.tree_id], "refs/heads/code-" .. short
    public[i] = records.plain(row, "id", "repository")
  end
  box:json("code.json", public)
end

return code
