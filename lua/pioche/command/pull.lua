-- pull: runs and what they saved, from a remote.
local exchange = require "pioche.core.exchange"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local remote = require "pioche.remote"
local term = require "pioche.term"

-- ---- which runs -------------------------------------------------------------------------

local function matches(found, word)
  return found.name == word or found.name:match("^(.*)%-%d+$") == word
    or (#word >= 6 and found.ulid:sub(1, #word) == word:upper())
end

-- Those that the words name, which each has to name one; all without words.
local function choose(found, words)
  if #words == 0 then return found end
  local list, taken = {}, {}
  for _, word in ipairs(words) do
    local any = false
    for _, one in ipairs(found) do
      if matches(one, word) then
        any = true
        if not taken[one.stem] then list[#list + 1] = one end
        taken[one.stem] = true
      end
    end
    if not any then
      errors.raise("not_found", "no run '%s' in the remote: expected a name as gpt-3, an experiment, or the"
        .. " first 6 or more letters of a ULID", term.clean(word))
    end
  end
  return list
end

-- ---- one run ------------------------------------------------------------------------------

-- Objects of the run that the store lacks.
local function missing_here(place, store, found, listing, folder)
  local name = found.stem .. ".objects"
  if not listing[name] then return {} end
  local list = remote.read_objects(errors.check(sys.read_file(place:get_file(name, folder .. "/runs"))))
  if not list then errors.raise("corrupt", "%s of the remote is no list of objects", name) end
  local missing = {}
  for _, object in ipairs(list) do
    if not store:one("SELECT 1 AS here FROM object WHERE sha256 = ?", object.sha256) then
      missing[#missing + 1] = object
    end
  end
  return missing
end

local function is_here(store, found)
  local row = store:one("SELECT o.sha256 FROM run r JOIN origin o ON o.run_id = r.id WHERE r.ulid = ?",
    found.ulid)
  return row and row.sha256:sub(1, 16) == found.digits
end

-- The bundle where it can be read, with the digest that its name begins.
local function fetch_bundle(place, found, folder)
  local path = place:get_file(found.stem .. ".tar", folder .. "/runs")
  local sha256 = errors.check(sys.sha256_file(path))
  if sha256:sub(1, 16) ~= found.digits then
    errors.raise("corrupt", "%s.tar of the remote has other bytes than its name says: SHA-256 %s",
      found.stem, sha256)
  end
  return path
end

-- Of `missing` what an interrupted pull had fetched lies in objects/ then, where it is whole;
-- the rest is to be fetched, of so many bytes.
local function take_left(ctx, found, missing, folder)
  local rest, rest_bytes, taken = {}, 0, 0
  for _, object in ipairs(missing) do
    local prefix = "/" .. object.sha256:sub(1, 2)
    local left, to = folder .. "/left" .. prefix, folder .. "/objects" .. prefix
    local path = left .. "/" .. object.sha256
    if sys.type(path) == "file" and sys.sha256_file(path) == object.sha256 then
      errors.check(sys.mkdirs(to))
      errors.check(os.rename(path, to .. "/" .. object.sha256))
      taken = taken + object.bytes
    else
      rest[#rest + 1], rest_bytes = object, rest_bytes + object.bytes
      os.remove(path)
    end
    if os.remove(left) then os.remove(folder .. "/left") end -- which are empty by now
  end
  if taken > 0 then
    ctx.note(("%s: %s of an interrupted pull were there already\n"):format(found.name, format.bytes(taken)))
  end
  return rest, rest_bytes
end

local function fetch_objects(place, found, missing, bytes, folder)
  local free = sys.free_bytes(folder)
  if free and bytes > free then
    errors.raise("no_space", "%s needs %s, there are %s free: --no-weights takes its records alone",
      found.name, format.bytes(bytes), format.bytes(free))
  end
  local progress = term.progress("pulling " .. found.name, format.bytes)
  local ok, failure = pcall(place.get_objects, place, folder .. "/objects", missing, function(done)
    progress(done, bytes)
  end)
  progress()
  if not ok then error(failure, 0) end
end

-- What had come of a run when the line went dead waits in left/, whatever becomes of the others.
local function set_aside(folder)
  for _, prefix in ipairs(sys.list(folder .. "/objects") or {}) do
    local from, to = folder .. "/objects/" .. prefix, folder .. "/left/" .. prefix
    errors.check(sys.mkdirs(to))
    for _, name in ipairs(errors.check(sys.list(from))) do
      errors.check(os.rename(from .. "/" .. name, to .. "/" .. name))
    end
  end
  errors.check(sys.remove_tree(folder .. "/objects"))
end

local function take(ctx, store, place, found, missing, done, folder)
  local path = fetch_bundle(place, found, folder)
  local rest, bytes = take_left(ctx, found, missing, folder)
  if #rest > 0 then fetch_objects(place, found, rest, bytes, folder) end
  local report = exchange.import(store.raw, { format = "bundle", path = path,
    objects = folder .. "/objects" })
  if report.message then error(errors.new(report.code, report.message), 0) end
  local taken = report.runs[1]
  done.id = store:one("SELECT e.name || '-' || r.number AS name FROM run r JOIN experiment e"
    .. " ON e.id = r.experiment_id WHERE r.id = ?", taken.id).name
  done.taken = taken.is_new or taken.checkpoints > 0
  done.checkpoints = taken.checkpoints
  errors.check(sys.remove_tree(folder .. "/objects"))
end

local function pull(ctx, store, place, listing, found, folder)
  local missing = ctx.options.no_weights and {} or missing_here(place, store, found, listing, folder)
  local done = { id = found.name, was = found.name, ulid = found.ulid, taken = false, checkpoints = 0,
    objects = #missing, bytes = 0, dry_run = ctx.options.dry_run or false }
  for _, object in ipairs(missing) do done.bytes = done.bytes + object.bytes end
  if is_here(store, found) and #missing == 0 then return done end
  if ctx.options.dry_run then
    done.taken = true
  else
    take(ctx, store, place, found, missing, done, folder)
  end
  return done
end

-- ---- the verb --------------------------------------------------------------------------------

local function tell(ctx, done)
  if ctx.csv then
    ctx.out(csv.line { done.id, done.was, done.taken, done.checkpoints, done.objects, done.bytes })
  elseif not ctx.json then
    local other = done.id ~= done.was and ", there " .. done.was or ""
    ctx.out(not done.taken and done.id .. "  as before" .. other .. "\n"
      or ("%s  %s%s in %d object%s%s\n"):format(done.id, done.dry_run and "would take " or "",
        format.bytes(done.bytes), done.objects, done.objects == 1 and "" or "s", other))
  end
end

local function run(ctx)
  ctx.store("create")
  local store = ctx.writing()
  local place = remote.open(store, ctx.args[1])
  local listing = place:list()
  local words = table.move(ctx.args, 2, #ctx.args, 1, {})
  local incoming <close> = errors.check(exchange.incoming(store.raw))
  if not ctx.options.dry_run then incoming:inherit(store.raw) end
  local list, failed = json.array {}, nil
  if ctx.csv then ctx.out(csv.line { "run", "was", "taken", "checkpoints", "objects", "bytes" }) end
  for _, found in ipairs(choose(remote.runs(listing), words)) do
    local ok, done = pcall(pull, ctx, store, place, listing, found, incoming:path())
    if ok then
      list[#list + 1] = done
      tell(ctx, done)
    elseif errors.is(done) and done.code ~= "cancelled" then
      failed = failed or done
      if done.code == "io" then
        set_aside(incoming:path())
      else -- of what is wrong, or has no room, nothing stays
        errors.check(sys.remove_tree(incoming:path() .. "/objects"))
      end
      ctx.note("pioche: " .. term.clean(found.name .. ": " .. done.message) .. "\n")
    else
      error(done, 0)
    end
    ctx.flush()
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
  if #list == 0 and not failed then ctx.note("there are no runs in the remote\n") end
  return failed and errors.exit_status(failed.code) or 0
end

return {
  summary = "take in runs with their checkpoints from a remote",
  usage = "pull REMOTE [RUN|EXPERIMENT|ULID...] [--no-weights] [--dry-run]",
  help = [[
REMOTE as for `pioche push`. All of its runs are taken in, or those that are named by
their names there, as `pioche import` takes a bundle: verified before any of it
counts, each run whole or not at all, with its ULID and an `origin`. Objects that are
here already are not fetched, others are compared with their names. A run that is
here is left as it is, but for checkpoints that it lacks. What fails is told, and the
other runs are taken all the same. Killed or cut off, a pull goes on with the objects
that had come when it is run again; not where the store is on a network disk.

JSON: an array of {id, was, ulid, taken, checkpoints, objects, bytes, dry_run};
objects and bytes are what was missing here.]],
  options = {
    { name = "no-weights", help = "without checkpoints; a later pull brings them" },
    { name = "dry-run", short = "n", help = "say what would be taken, and take nothing" },
  },
  examples = "pioche pull /mnt/lab/runs gpt-4\npioche pull cloud gpt --no-weights\npioche pull cloud",
  args = { 1, nil, what = "a REMOTE, and then runs" },
  run = run,
}
