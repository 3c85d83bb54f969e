-- checkpoint prove: does the program go on from a checkpoint as it did?
--
-- The run's own program, in its own code and with its own inputs, is started from the
-- checkpoint in a store of its own below staging/, until it has logged the next steps
-- anew; what it logs is compared with what the run logged there, bit for bit. The run
-- itself is not touched, and whoever supervises it is not in the way.
local code = require "pioche.code"
local core = require "pioche.core.store"
local json = require "pioche.core.json"
local launch = require "pioche.core.launch"
local checkpoints = require "pioche.checkpoints"
local csv = require "pioche.csv"
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local format = require "pioche.format"
local launcher = require "pioche.launcher"
local runs = require "pioche.runs"
local scratch_folder = require "pioche.checkpoint.scratch"
local sys = require "pioche.core.sys"

local check = errors.check
local timeout_s = 1800         -- unless told
local keys_told = 6

-- ---- what is to come again -------------------------------------------------------------

local function same_bits(a, b)
  if math.type(a) ~= math.type(b) then return false end
  return math.type(a) == "integer" and a == b or string.pack("<n", a) == string.pack("<n", b)
end

-- Visit(key, rank, step, value) of what a run logged from a step on, up to another.
local function each_point(store, run_id, first, last, visit)
  for _, row in ipairs(store:rows("SELECT id, key, rank FROM series WHERE run_id = ? AND last_step >= ?"
    .. " AND key NOT GLOB 'sys/*' ORDER BY key, rank", run_id, first)) do
    local points = check(store:points(row.id, { min = first, max = last }))
    for i, step in ipairs(points.step) do visit(row.key, row.rank, step, points.value[i]) end
  end
end

-- Does this key decide? Those that --metric names, else the losses and the goal.
local function decides(ctx, run, key)
  for _, name in ipairs(ctx.options.metric or {}) do
    if name == key then return true end
  end
  return not ctx.options.metric and (key:lower():find("loss", 1, true) ~= nil or key == run.goal_key)
end

-- The points that decide: those of the first `count` steps behind the checkpoint's, or
-- where nothing was logged there, those at it, as far as the program says them again:
-- { from = the checkpoint's step, first, last, is_at_end, points = { { key, rank, step,
-- value } } }; nil where there are none.
local function wanted_of(ctx, store, run, step, count)
  local all, steps, seen = {}, {}, {}
  each_point(store, run.id, step, nil, function(key, rank, at, value)
    if not decides(ctx, run, key) then return end
    all[#all + 1] = { key = key, rank = rank, step = at, value = value }
    if at > step and not seen[at] then
      seen[at], steps[#steps + 1] = true, at
    end
  end)
  table.sort(steps)
  local last = steps[math.min(count, #steps)] or step
  local wanted = { from = step, first = #steps > 0 and step + 1 or step, last = last,
    is_at_end = #steps == 0, points = {} }
  for _, point in ipairs(all) do
    if point.step >= wanted.first and point.step <= last then table.insert(wanted.points, point) end
  end
  return #wanted.points > 0 and wanted or nil
end

-- The newest checkpoint of a run behind which something that decides was logged.
local function choose(ctx, store, word, count)
  if word:find("@") or word:find("^%x+$") and not pcall(runs.find, store, word) then
    local row = checkpoints.find(store, word)
    local run = runs.load(store, { row.run_id })[1]
    return row, run, wanted_of(ctx, store, run, row.step, count)
  end
  local run = runs.load(store, { runs.find(store, word) })[1]
  local list = checkpoints.list(store, { run.id })
  if #list == 0 then errors.raise("not_found", "%s has no checkpoint", run.name) end
  local at_end
  for i = #list, 1, -1 do
    local wanted = not list[i].damage and wanted_of(ctx, store, run, list[i].step, count)
    if wanted and wanted.last > list[i].step then return list[i], run, wanted end
    at_end = at_end or wanted and { list[i], run, wanted }
  end
  return table.unpack(at_end or { list[#list], run })
end

-- ---- going on -------------------------------------------------------------------------

local function spec_of(ctx, store, scratch, run, index)
  local row = store:one("SELECT r.job, r.program, s.commit_id, s.tree_id, s.repository FROM run r LEFT JOIN"
    .. " snapshot s ON s.id = r.snapshot_id WHERE r.id = ?", run.id)
  if not row.job or not row.commit_id then
    errors.raise("invalid", "%s was started without a recipe: there is no program on record to go on with",
      run.name)
  end
  local kept, program = check(json.decode(row.job)), check(json.decode(row.program))
  if (kept.launch.nodes or 1) > 1 or program.objective then
    errors.raise("invalid", "%s ran %s: what is proved runs on this machine alone", run.name,
      program.objective and "in pioche itself" or "on " .. kept.launch.nodes .. " nodes")
  end
  program.box = { blame = function(_, _, field, text, ...)
    errors.raise("invalid", "%s: " .. text, field, ...)
  end }
  for _, name in ipairs(fields.sorted(kept.inputs)) do
    local item = kept.inputs[name]
    if core.input_digest(store.raw, item.path) ~= item.sha256 then
      errors.raise("invalid", "inputs.%s: %s is not what it was when the run was planned", name, item.path)
    end
  end
  local snapshot = { tree = row.tree_id, commit = row.commit_id, repository = row.repository }
  -- A supervisor may be making it in the store: what is not there is made apart.
  local is_there = sys.type(code.place(store, program, snapshot)) == "dir"
  local folder = code.folder(is_there and store or scratch, program, snapshot, function()
    ctx.note("building: " .. table.concat(program.build, " ") .. "\n")
  end)
  -- The agent of the attempt knows of no checkpoint: its ranks are told by their environment.
  local wrap = json.array { "env", "PIOCHE_RESUME=" .. index }
  table.move(program.wrap or {}, 1, #(program.wrap or {}), 3, wrap)
  return launcher.complete({ command = json.array(kept.words), env = program.env or {},
    setup = program.setup, wrap = wrap, code = folder, nodes = 1,
    ranks_per_node = kept.launch.ranks_per_node, grace_s = 1, bind = kept.launch.bind,
    mpi_env = kept.launch.mpi_env or nil, hang_s = kept.launch.hang_s, max_restarts = 0 }, { on = "local" }),
    row.program
end

-- Points of the scratch run by key, rank and step.
local function read_back(scratch, run_id, wanted, last)
  local found = {}
  each_point(scratch, run_id, wanted.first, last, function(key, rank, step, value)
    found[("%s\0%d\0%d"):format(key, rank, step)] = value
  end)
  return found
end

local function is_complete(scratch, run_id, wanted)
  local found = read_back(scratch, run_id, wanted, wanted.last)
  for _, point in ipairs(wanted.points) do
    if found[("%s\0%d\0%d"):format(point.key, point.rank, point.step)] == nil then return false end
  end
  return true
end

-- Run until all that is wanted was logged, or it is over: nil, or how it ended before.
local function go_on(supervisor, scratch, run_id, wanted, limit_s)
  local deadline, stopped, why = sys.mono_ns() + limit_s * 1000000000, false, nil
  while true do
    for _, event in ipairs(check(supervisor:wait(200))) do
      if event.event == "ended" then
        if stopped or event.result == "ok" then return why end
        return event.message ~= json.null and event.message or event.result
      elseif event.event == "interrupt" then
        stopped, why = true, "interrupted"
        check(supervisor:stop(run_id, true))
      end
    end
    if not stopped and is_complete(scratch, run_id, wanted) then
      stopped = true
      check(supervisor:stop(run_id, true))
    elseif not stopped and sys.mono_ns() > deadline then
      stopped, why = true, ("it has not logged step %d within %d s"):format(wanted.last, limit_s)
      check(supervisor:stop(run_id, true))
    end
  end
end

-- ---- comparing ---------------------------------------------------------------------------

local function names_of(set)
  local names = fields.sorted(set)
  local more = #names - keys_told
  return table.concat(names, ", ", 1, math.min(#names, keys_told))
    .. (more > 0 and (" and %d more"):format(more) or "")
end

local function steps_text(wanted)
  return wanted.first == wanted.last and "step " .. wanted.first
    or ("steps %d to %d"):format(wanted.first, wanted.last)
end

-- A program that takes no notice of the checkpoint and begins anew logs the same, too.
local function earlier_step(scratch, run_id, wanted)
  for _, point in ipairs(wanted.points) do
    local row = check(scratch:one("SELECT first_step AS step FROM series WHERE run_id = ? AND key = ? AND"
      .. " rank = ?", run_id, point.key, point.rank))
    if row and row.step and row.step < wanted.from then return row.step end
  end
  return nil
end

-- The verdict: result, how many points decided it, and a sentence.
local function judge(store, scratch, run, scratch_id, wanted, failure)
  local earlier = earlier_step(scratch, scratch_id, wanted)
  if earlier then
    return "failed", 0, ("it did not go on from the checkpoint: it logged step %d anew"):format(earlier)
  end
  local found, compared, keys, difference = read_back(scratch, scratch_id, wanted, wanted.last), 0, {}, nil
  for _, point in ipairs(wanted.points) do
    local value = found[("%s\0%d\0%d"):format(point.key, point.rank, point.step)]
    if value ~= nil then
      compared, keys[point.key] = compared + 1, true
      if not difference and not same_bits(value, point.value) then
        difference = ("%s of rank %d at step %d is %s, and was %s"):format(point.key, point.rank, point.step,
          format.exact(value), format.exact(point.value))
      end
    end
  end
  if difference then return "differs", compared, difference end
  if compared == 0 or not wanted.is_at_end and compared < #wanted.points then
    return "failed", compared, failure or ("it logged %d of the %d points of %s"):format(compared,
      #wanted.points, steps_text(wanted))
  end
  -- What else it logged tells more, and decides nothing: a speed is never the same.
  local same, other = {}, {}
  each_point(store, run.id, wanted.first, wanted.last, function(key, rank, step, value)
    local again = found[("%s\0%d\0%d"):format(key, rank, step)]
    if again ~= nil and not keys[key] then
      (same_bits(value, again) and same or other)[key] = true
    end
  end)
  for key in pairs(other) do same[key] = nil end
  return "same", compared, ("%s of %s, bit for bit%s%s"):format(names_of(keys), steps_text(wanted),
    next(same) and "; so are " .. names_of(same) or "",
    next(other) and "; others are " .. names_of(other) or "")
end

-- Go on from the checkpoint in `folder`; the verdict.
local function try(ctx, store, row, run, wanted, folder)
  check(sys.mkdirs(folder))
  local index = folder .. "/resume.txt"
  store:checkpoint_index(row.id, index)
  local scratch <close> = check(core.open(folder .. "/store", "create"))
  local spec, program = spec_of(ctx, store, scratch, run, index)
  check(scratch:lease())
  local id = check(scratch:run_create { experiment_id = check(scratch:experiment(run.experiment)),
    program = program, launch = "{}", seed = run.seed })
  local supervisor <close> = check(launch.supervisor(scratch, { executable = sys.executable(),
    lib_dir = check(sys.lib_dir()) }))
  check(supervisor:start(id, spec))
  local failure = go_on(supervisor, scratch, id, wanted, ctx.options.timeout or timeout_s)
  if failure == "interrupted" then errors.raise("cancelled", "interrupted: nothing is proved") end
  return judge(store, scratch, run, id, wanted, failure)
end

return function(ctx, words)
  local store = ctx.writing()
  local row, run, wanted = choose(ctx, store, words[1], ctx.options.steps or 1)
  if not wanted then
    errors.raise("not_found", "%s: the run logged none of %s at or behind its step: there is nothing to"
      .. " compare with; --metric says with what, or choose an earlier one", row.name,
      ctx.options.metric and table.concat(ctx.options.metric, ", ") or "its losses")
  end
  local folder = scratch_folder(store, "prove")
  local ok, result, points, message = pcall(try, ctx, store, row, run, wanted, folder)
  sys.remove_tree(folder)
  if not ok then error(result, 0) end
  store:proof_add { run = run.id, checkpoint = row.sha256, step = row.step, result = result, points = points,
    message = message }
  if ctx.json then
    ctx.out(ctx.encode { id = row.sha256, name = row.name, result = result, points = points,
      first_step = wanted.first, last_step = wanted.last, message = message } .. "\n")
  elseif ctx.csv then
    ctx.out(csv.line { "checkpoint", "id", "result", "points", "message" })
    ctx.out(csv.line { row.name, row.sha256, result, points, message })
  else
    ctx.out(("%s %s: %s\n"):format(row.name, result == "same" and "goes on as it did"
      or result == "differs" and "does not go on as it did" or "could not be proved", message))
  end
  return result == "same" and 0 or 1
end
