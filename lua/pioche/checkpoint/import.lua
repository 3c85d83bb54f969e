-- checkpoint import: a model of others, in safetensors files or, where there is a torch,
-- as PyTorch saved it, becomes a checkpoint of a
-- run: by the way that its own ranks' files take, so that it is deduplicated, verified,
-- exported and grown from like any other.
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local cut = require "pioche.checkpoint.cut"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local runs = require "pioche.runs"
local scratch_folder = require "pioche.checkpoint.scratch"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

local index_name = "model.safetensors.index.json"

-- ---- which files -------------------------------------------------------------------------

-- Files by the index, in the order of their names; and { tensor = file }.
local function by_index(folder)
  local path = folder .. "/" .. index_name
  local ok, index = pcall(json.decode, sys.read_file(path))
  local map = ok and type(index) == "table" and index.weight_map
  if type(map) ~= "table" or next(map) == nil then
    errors.raise("corrupt", "%s: expected {\"weight_map\": {TENSOR: FILE}}", path)
  end
  local names, seen = {}, {}
  for tensor, name in pairs(map) do
    if type(name) ~= "string" or name:find("/", 1, true) or name == ".." then
      errors.raise("corrupt", "%s: '%s' is in '%s': expected the name of a file beside it", path, tensor,
        tostring(name))
    end
    if not seen[name] then names[#names + 1] = name end
    seen[name] = true
  end
  table.sort(names)
  return names, map
end

local function is_of_torch(name)
  local ending = name:match("%.%w+$")
  return ending == ".pt" or ending == ".pth" or ending == ".bin" or ending == ".ckpt" or name == ".metadata"
end

-- Is it PyTorch's: a file of torch.save, or a folder that has such and no safetensors?
local function of_torch(path)
  if sys.type(path) == "file" then return is_of_torch(path:match("[^/]*$")) end
  local found = false
  for _, name in ipairs(sys.type(path) == "dir" and errors.check(sys.list(path)) or {}) do
    if name:find("%.safetensors$") then return false end
    found = found or is_of_torch(name)
  end
  return found
end

local no_torch = 4             -- exit status of pioche_torch.py

-- Let torch say what is in `path`, in safetensors files in `folder`.
local function convert(ctx, path, folder)
  local script = errors.check(sys.lib_dir()) .. "/pioche/pioche_torch.py"
  local python = sys.getenv("PIOCHE_PYTHON") or "python3"
  local done, message = sys.run { argv = { python, script, path, folder } }
  if not done then errors.raise("not_found", "%s: %s", python, message) end
  local said = (done.stderr or ""):gsub("%s+$", "")
  if done.status == no_torch then
    errors.raise("not_found", "%s: PyTorch's own format, and `%s` has no torch: start pioche where it"
      .. " has, say which by PIOCHE_PYTHON, or save it with safetensors.torch.save_file", path, python)
  elseif done.status ~= 0 then
    local last = said:match("[^\n]*$")
    errors.raise("invalid", "%s", last ~= "" and last or path .. ": torch failed")
  end
  if said ~= "" then ctx.note(said .. "\n") end
end

local function all_files(folder)
  local names = {}
  for _, name in ipairs(errors.check(sys.list(folder))) do
    if name:find("%.safetensors$") then names[#names + 1] = name end
  end
  if #names == 0 then errors.raise("not_found", "%s: no .safetensors file in it", folder) end
  return names
end

-- What the checkpoint has of a file, added to `files`; `file_of`: of tensors by now.
local function add_file(files, file_of, folder, name)
  local path = folder .. "/" .. name
  local list, metadata = errors.check(core.safetensors(path))
  for _, tensor in ipairs(list) do
    if file_of[tensor.name] then
      errors.raise("invalid", "'%s' is in %s and in %s", tensor.name, file_of[tensor.name], name)
    end
    file_of[tensor.name] = name
  end
  for _, file in ipairs(cut(path, list, metadata)) do files[#files + 1] = file end
  return #list, sys.stat(path).size
end

-- { files }, with what is in them checked: no tensor twice, and each where the index says.
local function find_files(path)
  local kind = sys.type(path)
  if not kind then errors.raise("not_found", "%s: there is no such file or folder", path) end
  local folder, names, map = (path:gsub("/+$", ""))
  if kind == "file" then
    folder, names = path:match("^(.*)/[^/]*$") or ".", { path:match("[^/]*$") }
  elseif sys.type(folder .. "/" .. index_name) == "file" then
    names, map = by_index(folder)
  else
    names = all_files(folder)
  end
  local files, file_of, count, bytes = {}, {}, 0, 0
  for _, name in ipairs(names) do
    local more, size = add_file(files, file_of, folder, name)
    count, bytes = count + more, bytes + size
  end
  for tensor, name in pairs(map or {}) do
    if file_of[tensor] ~= name then
      errors.raise("corrupt", "%s/%s: '%s' is to be in %s, which has no such tensor", folder, index_name,
        tensor, name)
    end
  end
  return files, count, bytes
end

local function check_room(store, bytes)
  local free = sys.free_bytes(store:path())
  if free and bytes > free then
    errors.raise("no_space", "it takes %s, and the store's disk has %s free", format.bytes(bytes),
      format.bytes(free))
  end
end

return function(ctx, words)
  local options = ctx.options
  if not options.run or not options.step then
    errors.raise("usage", "checkpoint import: say of which run and step, with --run RUN --step N")
  end
  local role = options.role or "model"
  if not role:find("^[%w_-][%w._-]*$") or #role > 64 then
    errors.raise("usage", "--role: expected letters, digits, '.', '_' and '-', got '%s'", role)
  end
  local store = ctx.writing()
  local run = runs.load(store, { runs.find(store, options.run) })[1]
  if store:one("SELECT 1 FROM checkpoint WHERE run_id = ? AND step = ?", run.id, options.step) then
    errors.raise("exists", "%s has a checkpoint of step %d already", run.name, options.step)
  end
  local staging, count = scratch_folder(store, "import"), nil
  local ok, why = pcall(function()
    local path, files, total = words[1]
    if of_torch(path) then
      errors.check(sys.mkdirs(staging))
      convert(ctx, path, staging .. "/torch")
      path = staging .. "/torch"
    end
    files, count, total = find_files(path)
    check_room(store, total)
    local progress = term.progress("importing " .. words[1], format.bytes)
    local id, message, code = store.raw:checkpoint_import { run = run.id, step = options.step, role = role,
      staging = staging .. "/files", files = files, report = function(_, done) progress(done, total) end }
    progress()
    if not id then errors.raise(code, "%s: %s", run.name, message) end
  end)
  sys.remove_tree(staging)
  if not ok then error(why, 0) end
  local row = checkpoints.find(store, run.name .. "@" .. options.step)
  if ctx.json then
    ctx.out(ctx.encode(checkpoints.to_json(row)) .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "checkpoint", "id", "bytes", "files", "tensors" })
    ctx.out(csv.line { row.name, row.sha256, row.bytes, row.files, count })
  else
    ctx.out(("%s  %s in %d file%s, %d tensors\n"):format(row.name, format.bytes(row.bytes), row.files,
      row.files == 1 and "" or "s", count))
  end
  return 0
end
