-- checkpoint encode and decode: files of checkpoints, kept smaller, and as they were.
--
-- What it takes to be an anchor is for core/store/object_code.h to say; which
-- checkpoints may be one is said here: the nearest older one of the same run.
local json = require "pioche.core.json"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local format = require "pioche.format"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

local encode = {}

-- Fewer bytes have to pay for the time that it takes, each time they are read.
encode.least = 1.2

-- The kind of keep.encode: nil, false, or the ratio from which on it pays.
function encode.kind(value)
  if value == true then return encode.least end
  if value == false then return false end
  if type(value) == "number" and value > 1 and value < 1000 then return value end
  return nil, "true, false, or how many times smaller a file has to become, as 1.5"
end

-- The digest of the file that one of a checkpoint may be decoded with: that of its rank
-- and role in the nearest older checkpoint that hangs on no other; nil: there is none.
-- `allowed`: checkpoints by their id; nil: all.
local function anchor_of(store, row, file, allowed)
  for other in store:each("SELECT c.id, f.sha256 FROM checkpoint_file f JOIN checkpoint c ON"
    .. " c.id = f.checkpoint_id JOIN object o ON o.sha256 = f.sha256 WHERE c.run_id = ?1"
    .. " AND c.state = 'sealed' AND c.step < ?2 AND f.rank = ?3 AND f.role = ?4 AND f.part = ?5 AND o.bytes = ?6"
    .. " AND o.sha256 != ?7 AND NOT EXISTS (SELECT 1 FROM checkpoint_file g JOIN object h ON h.sha256 = g.sha256 WHERE"
    .. " g.checkpoint_id = c.id AND h.anchor IS NOT NULL) ORDER BY c.step DESC, c.id DESC",
    row.run_id, row.step, file.rank, file.role, file.part, file.bytes, file.sha256) do
    if not allowed or allowed[other.id] then return other.sha256 end
  end
  return nil
end

-- Encode the files of one checkpoint: { files = how many became smaller, of, bytes,
-- stored_bytes, whys = { [sentence] = files } }.
local function encode_one(store, row, least, allowed, progress)
  local done = { files = 0, of = 0, bytes = 0, stored_bytes = 0, whys = {} }
  for _, file in ipairs(checkpoints.files(store, row)) do
    local result = store:object_encode(file.sha256, { least = least,
      anchor = anchor_of(store, row, file, allowed),
      report = function(_, bytes) progress(done.bytes + bytes, row.bytes) end })
    done.of, done.files = done.of + 1, done.files + (result.codec and 1 or 0)
    done.bytes, done.stored_bytes = done.bytes + result.bytes, done.stored_bytes + result.stored_bytes
    if result.why then done.whys[result.why] = (done.whys[result.why] or 0) + 1 end
  end
  return done
end

local function whys_text(done)
  local parts = {}
  for why, count in pairs(done.whys) do
    parts[#parts + 1] = ("%d file%s: %s"):format(count, count == 1 and "" or "s", why)
  end
  table.sort(parts)
  return #parts > 0 and "; as they are stay " .. table.concat(parts, ", ") or ""
end

local function sentence(done)
  if done.files == 0 then return "stays as it is" .. whys_text(done):gsub("^; as they are stay ", ": ") end
  return ("is encoded: %d of %d files, %s as %s, %.2f times smaller%s"):format(done.files, done.of,
    format.bytes(done.bytes), format.bytes(done.stored_bytes), done.bytes / done.stored_bytes,
    whys_text(done))
end

local function tell(ctx, lists)
  if ctx.json then
    ctx.out(ctx.encode(json.array(lists)) .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "checkpoint", "id", "done", "files", "bytes", "stored_bytes" })
    for _, one in ipairs(lists) do
      ctx.out(csv.line { one.name, one.id, one.done, one.files, one.bytes, one.stored_bytes })
    end
  end
end

local function find_all(store, words)
  local rows = {}
  for i, word in ipairs(words) do rows[i] = checkpoints.find(store, word) end
  return rows
end

function encode.encode(ctx, words)
  local store = ctx.writing()
  local rows, allowed, lists = find_all(store, words), nil, {}
  if ctx.options.anchor or ctx.options.alone then
    allowed = {}
    for _, row in ipairs(find_all(store, ctx.options.anchor or {})) do allowed[row.id] = true end
  end
  table.sort(rows, function(a, b) return a.step < b.step end)
  for i, row in ipairs(rows) do
    local progress = term.progress("encoding " .. row.name, format.bytes)
    local done = encode_one(store, row, ctx.options.least or encode.least, allowed, progress)
    progress()
    lists[i] = { id = row.sha256, name = row.name, done = done.files > 0 and "encoded" or "kept",
      files = done.files, bytes = done.bytes, stored_bytes = done.stored_bytes }
    if not ctx.json and not ctx.csv then ctx.out(row.name .. " " .. sentence(done) .. "\n") end
  end
  tell(ctx, lists)
  return 0
end

function encode.decode(ctx, words)
  local store = ctx.writing()
  local lists = {}
  for i, row in ipairs(find_all(store, words)) do
    local files = 0
    for _, file in ipairs(checkpoints.files(store, row)) do
      store:object_decode(file.sha256)
      files = files + (file.codec and 1 or 0)
    end
    lists[i] = { id = row.sha256, name = row.name, done = files > 0 and "decoded" or "kept", files = files,
      bytes = row.bytes, stored_bytes = row.bytes }
    if not ctx.json and not ctx.csv then
      ctx.out(("%s %s\n"):format(row.name, files > 0 and "has files of its bytes again: " .. files
        or "was not encoded"))
    end
  end
  tell(ctx, lists)
  return 0
end

-- ---- for a session (retention.lua) -----------------------------------------------------

-- What stays by these is for looking at; the newest, and what a run needs, is to go on from.
local snapshot, anchor = { every = true, best = true, pinned = true }, { every = true, pinned = true }

-- The oldest snapshot of a run with files that nobody tried to encode yet, and the
-- arguments of the process that does; nil: there is none. `tried`: those that need not be
-- tried again, by id.
function encode.next(store, run_id, rule, tried)
  local list, allowed = errors.check(store:checkpoint_judge(run_id, rule)), {}
  for i = #list, 1, -1 do
    local one = list[i]
    local row = snapshot[one.why] and not tried[one.id] and errors.check(store:one("SELECT manifest_sha256 AS"
      .. " sha256, step, bytes FROM checkpoint c WHERE id = ? AND EXISTS (SELECT 1 FROM checkpoint_file f"
      .. " JOIN object o ON o.sha256 = f.sha256 WHERE f.checkpoint_id = c.id AND o.codec IS NULL AND o.sampled IS"
      .. " NULL AND o.bytes >= 65536)", one.id))
    if row then
      local argv = { "nice", sys.executable(), "checkpoint", "encode", row.sha256, "--alone" }
      for k = 1, #allowed do table.move({ "--anchor", allowed[k] }, 1, 2, #argv + 1, argv) end
      row.id = one.id
      return row, argv
    end
    if anchor[one.why] then
      allowed[#allowed + 1] = errors.check(store:one("SELECT manifest_sha256 AS sha256 FROM checkpoint WHERE"
        .. " id = ?", one.id)).sha256
    end
  end
  return nil
end

-- What of a checkpoint is encoded: { step, bytes }, and the arguments of the process that
-- decodes it; nil: nothing is.
function encode.undone(store, id)
  local row = errors.check(store:one("SELECT c.manifest_sha256 AS sha256, c.step, sum(o.bytes) AS bytes FROM"
    .. " checkpoint c JOIN object o ON o.codec IS NOT NULL AND o.sha256 IN (SELECT f.sha256 FROM checkpoint_file f"
    .. " WHERE f.checkpoint_id = c.id) WHERE c.id = ? GROUP BY c.id", id))
  return row, row and { sys.executable(), "checkpoint", "decode", row.sha256, "--store",
    sys.realpath(store:path()) }
end

return encode
