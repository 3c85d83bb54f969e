-- push: runs and what they saved, to a remote.
local exchange = require "pioche.core.exchange"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"
local bag = require "pioche.bag"
local boxes = require "pioche.bag.box"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local query = require "pioche.query"
local remote = require "pioche.remote"
local runs = require "pioche.runs"
local term = require "pioche.term"
local weights = require "pioche.bag.weights"

-- A bundle of the run and the records of all its checkpoints, without their files.
-- Its path, digest and size, and the objects that it needs.
local function make_bundle(ctx, store, run, folder)
  local rows = weights.choose(store, run, { "all" })
  local path = folder .. "/" .. run.ulid .. ".tar"
  local box = boxes.new { path = path, name = run.name, mtime = run.created_ns // 1000000000,
    spool = folder, note = ctx.note }
  local ok, written = pcall(function()
    bag.fill(box, store, { run }, { checkpoints = { [run.id] = rows }, weights_only = "none" })
    return errors.check(box.bundle:write {})
  end)
  box.bundle:close()
  if not ok then error(written, 0) end
  local ids = {}
  for i, row in ipairs(rows) do ids[i] = row.id end
  local objects = store:rows("SELECT DISTINCT f.sha256, o.bytes FROM checkpoint_file f JOIN object o"
    .. " ON o.sha256 = f.sha256 WHERE f.checkpoint_id IN (SELECT value FROM json_each(?))"
    .. " ORDER BY f.sha256", "[" .. table.concat(ids, ",") .. "]")
  return { path = path, sha256 = written.sha256, bytes = written.bytes, objects = objects }
end

local function total(objects)
  local bytes = 0
  for _, object in ipairs(objects) do bytes = bytes + object.bytes end
  return bytes
end

-- What stood for the run before its records changed.
local function remove_older(place, listing, run, stem)
  for _, other in ipairs(remote.runs(listing)) do
    if other.ulid == run.ulid and other.stem ~= stem then
      place:remove(other.stem .. ".tar")
      if listing[other.stem .. ".objects"] then place:remove(other.stem .. ".objects") end
    end
  end
end

local function send(place, store, run, made, missing, listing, folder)
  local stem = remote.stem(run, made.sha256)
  local progress = term.progress("pushing " .. run.name, format.bytes)
  local bytes = total(missing)
  local ok, failure = pcall(place.put_objects, place, store, missing, function(done)
    progress(done, bytes)
  end)
  progress()
  if not ok then error(failure, 0) end
  local text, list = remote.objects_text(made.objects), folder .. "/list"
  errors.check(sys.write_file(list, text))
  place:put_file(list, stem .. ".objects", sys.sha256(text))
  place:put_file(made.path, stem .. ".tar", made.sha256)
  remove_older(place, listing, run, stem)
end

local function push(ctx, store, place, listing, run, folder)
  local made = make_bundle(ctx, store, run, folder)
  local stem = remote.stem(run, made.sha256)
  local missing = place:absent(made.objects)
  local whole = listing[stem .. ".tar"] == made.bytes and listing[stem .. ".objects"] and #missing == 0
  if not whole and not ctx.options.dry_run then
    send(place, store, run, made, missing, listing, folder)
  end
  errors.check(sys.remove_tree(made.path))
  return { id = run.name, ulid = run.ulid, sent = not whole, objects = #missing, bytes = total(missing),
    records_bytes = made.bytes, dry_run = ctx.options.dry_run or false }
end

local function tell(ctx, done)
  if ctx.csv then
    ctx.out(csv.line { done.id, done.sent, done.objects, done.bytes, done.records_bytes })
  elseif not ctx.json then
    ctx.out(not done.sent and done.id .. "  as before\n"
      or ("%s  %s%s of records, %s in %d object%s\n"):format(done.id, done.dry_run and "would send " or "",
        format.bytes(done.records_bytes), format.bytes(done.bytes), done.objects,
        done.objects == 1 and "" or "s"))
  end
end

local function run(ctx)
  local store = ctx.writing()
  local place = remote.open(store, ctx.args[1], not ctx.options.dry_run)
  local words = table.move(ctx.args, 2, #ctx.args, 1, {})
  local ids = #words > 0 and query.choose(store, words, {})
    or store:column("SELECT id FROM run ORDER BY experiment_id, number")
  if #ids == 0 then errors.raise("not_found", "no run to push: none matches") end
  local incoming <close> = errors.check(exchange.incoming(store.raw))
  local listing, list = place:list(), json.array {}
  if ctx.csv then ctx.out(csv.line { "run", "sent", "objects", "bytes", "records_bytes" }) end
  for i, id in ipairs(ids) do
    local loaded = runs.load(store, { id }, { params = true, tags = true, attempts = true })[1]
    list[i] = push(ctx, store, place, listing, loaded, incoming:path())
    tell(ctx, list[i])
    ctx.flush()
  end
  if ctx.json then ctx.out(ctx.encode(list) .. "\n") end
  return 0
end

return {
  summary = "send runs with their checkpoints to a remote, what it lacks of them",
  usage = "push REMOTE [RUN|EXPERIMENT|QUERY...] [--dry-run]",
  help = [[
REMOTE is a name in `remotes` of pioche.lua, a directory, which is made, or
rclone:NAME:PATH, NAME being a remote of rclone's own configuration: S3 and whatever
else rclone speaks. Keys stay there; a store holds none.

  -- pioche.lua
  return { remotes = { lab = "/mnt/lab/runs", cloud = "rclone:s3:bucket/runs" } }

All runs are sent, or those that are named. Each is a bundle without weights
(`pioche help export`), which tar and sha256sum open, and its checkpoints' files
are objects by their SHA-256, each there once for all runs. Only what is missing is
copied; every object is compared with its name before it leaves. Killed or cut off, a
push goes on where it was when it is run again, and what has its name in the remote
is whole. A run whose records changed takes the place of what was sent of it before.

JSON: an array of {id, ulid, sent, objects, bytes, records_bytes, dry_run}; objects
and bytes are what was missing.]],
  options = { { name = "dry-run", short = "n", help = "say what is missing there, and send nothing" } },
  examples = "pioche push /mnt/lab/runs\npioche push cloud gpt 'val/loss < 1.8'\n"
    .. "pioche pull cloud gpt-4      # in another store",
  args = { 1, nil, what = "a REMOTE, and then runs" },
  run = run,
}
