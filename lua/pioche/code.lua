-- code.lua: the folder with the code of a run: checked out and built once a tree.
local errors = require "pioche.errors"
local fields = require "pioche.fields"
local git = require "pioche.core.git"
local json = require "pioche.core.json"
local sys = require "pioche.core.sys"

local code = {}
local check = errors.check

local function last_lines(path, count)
  local text = sys.read_file(path) or ""
  local lines = {}
  for line in text:gmatch("[^\n]+") do lines[#lines + 1] = line end
  return table.concat(lines, "\n", math.max(1, #lines - count + 1))
end

local function build(program, dir, log, interrupted)
  sys.write_file(log, "")
  local argv = program.build
  if program.setup then
    argv = { "sh", "-c", program.setup .. '\nexec "$@"', "sh", table.unpack(program.build) }
  end
  -- The flags of a make that started pioche are not the build's.
  local env = { MAKEFLAGS = "", MFLAGS = "" }
  for name, value in pairs(program.env or {}) do env[name] = value end
  local result, message, word = sys.run { argv = argv, cwd = dir, env = env, log = log,
    poll = interrupted }
  if not result then errors.raise(word, "build: %s", message) end
  if result.cancelled then errors.raise("cancelled", "interrupted: the build was stopped") end
  if result.status ~= 0 then
    program.box:blame(program.at, "build", "`%s` ended with %s; the last lines of %s:\n%s",
      table.concat(program.build, " "),
      result.signal and sys.signal_name(result.signal) or "exit status " .. result.status, log,
      last_lines(log, 20))
  end
end

-- The program must be in the code that runs, not only in the work tree.
local function check_command(program, dir)
  local name = program.command[1]
  if program.wrap or not name:find("/", 1, true) or name:sub(1, 1) == "/" then return end
  local path = dir .. "/" .. name
  if sys.type(path) == "file" and sys.access_x(path) then return end
  local what = sys.type(path) == nil and "is not" or "is not executable"
  program.box:blame(program.at, "command", program.build
    and "%s %s in the code after `build`: it must make it there"
    or "%s %s in the snapshot of the code: if git ignores it, let `build` make it",
    fields.show(name), what)
end

-- Where a store has a program's code of a snapshot { tree, commit, repository }, if it
-- has it: cache/<key>.
function code.place(store, program, snapshot)
  local key = check(sys.sha256(check(json.encode { tree = snapshot.tree, v = 1,
    build = program.build or json.null, setup = program.build and program.setup or json.null,
    env = program.build and program.env or json.null }))):sub(1, 24)
  return store:path() .. "/cache/" .. key
end

-- That folder, made as cache/<key>.build and renamed when it is whole.
-- building() is called before a build, interrupted() meanwhile: true ends it.
function code.folder(store, program, snapshot, building, interrupted)
  local dir = code.place(store, program, snapshot)
  local making = dir .. ".build"
  if sys.type(dir) ~= "dir" then
    check(sys.mkdirs(store:path() .. "/cache"))
    check(sys.remove_tree(making))
    check(git.checkout(snapshot.repository, snapshot.commit, making))
    if program.build then
      building()
      build(program, making, dir .. ".log", interrupted)
    end
    check(sys.publish(making, dir))
  end
  check_command(program, dir)
  return dir
end

return code
