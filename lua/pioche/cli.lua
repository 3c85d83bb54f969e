-- cli.lua: the command line: argv to a verb, its options, its exit status.
--
-- A verb is a module pioche.command.VERB that returns
--   { summary, usage, help, options = { {name, short, arg, type, choices,
--     multi, help} }, args = {min, max}, run = function(ctx) }
-- and gets ctx = { args, options, json, csv, color, cols, stdout_tty, store(),
-- reading(), writing(), out(), note(), flush(), encode() }. An option's value is found under its
-- name with '_' for '-': true, a string, a number where type is "integer" or
-- "number", an array where multi is set.
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local term = require "pioche.term"

local cli = {}

-- Shown in this order by `pioche help`; any other module under pioche.command
-- is a verb too.
cli.verbs = {
  "run", "plan", "supervise", "attach", "watch", "ls", "show", "compare", "chart", "logs", "stop", "drill",
  "note", "tag", "sql", "sweep", "checkpoint", "gc", "export", "import", "push", "pull", "verify", "nodes",
  "journal", "doctor", "completion", "help",
}

cli.globals = {
  { name = "store", arg = "DIR", help = "the store; else $PIOCHE_STORE, else .pioche/ found upwards" },
  { name = "json", help = "print JSON, with stable names" },
  { name = "csv", help = "print CSV (RFC 4180)" },
  { name = "no-color", help = "no colours; so does the variable NO_COLOR" },
  { name = "help", short = "h", help = "explain the verb" },
}

-- Verbs whose output is no table, or no JSON, and what to ask instead.
local without = {
  csv = {
    run = "prints no table; `pioche ls EXPERIMENT --csv` prints its runs",
    drill = "prints no table; --json prints what came of it",
    watch = "prints no table; `pioche ls --csv` prints the runs",
    supervise = "prints no table; `pioche ls --csv` prints the runs",
    attach = "prints no table; `pioche show RUN --events --csv` prints events",
    plan = "prints no table; --json prints the plan",
    help = "prints no table; --json prints the verbs",
    completion = "prints no table, but a script",
    journal = "prints no table; --json prints an object a record",
  },
  json = {
    watch = "prints no JSON; `pioche ls --json` prints the runs",
    completion = "prints no JSON, but a script",
  },
}

-- The options of every verb that this one takes.
function cli.globals_of(verb)
  local list = {}
  for _, option in ipairs(cli.globals) do
    if not (without[option.name] or {})[verb] then list[#list + 1] = option end
  end
  return list
end

-- Version of the contract with scripts: names in JSON, exit statuses, words.
cli.contract = 1

local function usage_error(format, ...)
  errors.raise("usage", format, ...)
end

-- The verb's module, or nil when there is none.
function cli.command(verb)
  if not verb:match("^%l[%l%d_-]*$") then return nil end
  local name = "pioche.command." .. verb
  local ok, module = pcall(require, name)
  if ok then return type(module) == "table" and module or nil end
  if not tostring(module):find("module '" .. name .. "' not found", 1, true) then
    error(module, 0)
  end
  return nil
end

local function option_table(verb_options)
  local by_name, by_short, names = {}, {}, {}
  for _, list in ipairs { cli.globals, verb_options or {} } do
    for _, option in ipairs(list) do
      by_name[option.name] = option
      if option.short then by_short[option.short] = option end
      names[#names + 1] = "--" .. option.name
    end
  end
  return by_name, by_short, names
end

local function convert(option, text)
  if option.type == "integer" then
    local value = math.tointeger(tonumber(text))
    if not value then
      usage_error("--%s: expected an integer, got '%s'", option.name, text)
    end
    text = value
  elseif option.type == "number" then
    local value = tonumber(text)
    if not value then
      usage_error("--%s: expected a number, got '%s'", option.name, text)
    end
    text = value
  end
  if option.min and text < option.min then
    usage_error("--%s: expected at least %s, got %s", option.name, option.min, text)
  end
  if option.max and text > option.max then
    usage_error("--%s: expected at most %s, got %s", option.name, option.max, text)
  end
  if option.choices then
    for _, choice in ipairs(option.choices) do
      if choice == text then return text end
    end
    usage_error("--%s: expected %s, got '%s'", option.name, table.concat(option.choices, ", "),
      text)
  end
  return text
end

-- Positional arguments and options of argv[first..]; raises usage errors.
function cli.parse(argv, first, verb_options)
  local by_name, by_short, names = option_table(verb_options)
  local args, options = {}, {}

  local function set(option, value)
    local key = option.name:gsub("-", "_")
    if not option.arg then
      options[key] = true
    elseif option.multi then
      options[key] = options[key] or {}
      table.insert(options[key], convert(option, value))
    else
      options[key] = convert(option, value)
    end
  end

  local i = first
  local function value_of(label)
    i = i + 1
    if argv[i] == nil then usage_error("%s: expected a value after it", label) end
    return argv[i]
  end

  while i <= #argv do
    local word = argv[i]
    local name, inline = word:match("^%-%-([^=]+)=(.*)$")
    name = name or word:match("^%-%-(.+)$")
    if word == "--" then
      table.move(argv, i + 1, #argv, #args + 1, args)
      break
    elseif name then
      local option = by_name[name]
      if not option then
        usage_error("unknown option '--%s'%s", name, errors.suggestion("--" .. name, names))
      elseif option.arg then
        set(option, inline or value_of("--" .. name))
      elseif inline then
        usage_error("--%s: takes no value, got '%s'", name, inline)
      else
        set(option)
      end
    elseif word:match("^%-.") then
      local letters = word:sub(2)
      while letters ~= "" do
        local letter = letters:sub(1, 1)
        letters = letters:sub(2)
        local option = by_short[letter]
        if not option then usage_error("unknown option '-%s'", letter) end
        if option.arg then
          set(option, letters ~= "" and letters or value_of("-" .. letter))
          letters = ""
        else
          set(option)
        end
      end
    else
      args[#args + 1] = word
    end
    i = i + 1
  end
  return args, options
end

-- Path of the store: --store, $PIOCHE_STORE, or .pioche/ found upwards; nil
-- when there is none. What is named explicitly is returned even if absent.
function cli.store_path(options)
  local named = options.store or sys.getenv("PIOCHE_STORE")
  if named and named ~= "" then
    if sys.type(named .. "/pioche.db") ~= "file"
      and sys.type(named .. "/.pioche/pioche.db") == "file" then
      return named .. "/.pioche"
    end
    return named
  end
  local dir = sys.find_up(".pioche", sys.cwd())
  if dir and not dir:match("/%.pioche/?$") then dir = dir:gsub("/$", "") .. "/.pioche" end
  return dir
end

-- JSON of a value; bytes in it that are not UTF-8 become U+FFFD.
local function encode(value)
  local json = require "pioche.core.json"
  local ok, text = pcall(json.encode, value)
  if ok and text then return text end
  local function clean(v)
    if type(v) == "string" then return term.utf8(v) end
    if type(v) ~= "table" then return v end
    local copy = setmetatable({}, getmetatable(v))
    for key, item in pairs(v) do copy[clean(key)] = clean(item) end
    return copy
  end
  return errors.check(json.encode(clean(value)))
end

local function output(fd)
  local buffer, bytes = {}, 0
  local function flush()
    if bytes == 0 then return end
    local text = table.concat(buffer)
    buffer, bytes = {}, 0
    errors.check(sys.write(fd, text))
  end
  return function(text)
    buffer[#buffer + 1] = text
    bytes = bytes + #text
    if bytes >= 65536 then flush() end
  end, flush
end

-- The store for a verb that reads: its methods raise where the store's own
-- return nil and a message, so that a broken disk is not taken for "no rows".
local function raising(store)
  return setmetatable({ raw = store }, { __index = function(self, name)
    local function method(_, ...)
      return errors.check(store[name](store, ...))
    end
    self[name] = method
    return method
  end })
end

-- What is told of a store of an older version while it is brought up to date, on
-- stderr: on a terminal how long it takes, else once that it is under way.
function cli.upgrade_progress()
  local function count(rows) return require "pioche.format".count(rows) end
  local progress = term.progress("bringing the store up to date: row", count)
  local started, told = sys.mono_ns(), sys.isatty(2)
  return function(_, done, total)
    if not told and sys.mono_ns() - started > 1000000000 then
      told = true
      sys.write(2, "pioche: bringing the store up to date: about " .. count(total) .. " rows\n")
    end
    progress(done, total)
  end, progress
end

-- Stores of a command: each mode is opened once. `fallback` is where "create"
-- makes a store when none is named or found.
local function store_opener(options)
  local core = require "pioche.core.store"
  local opened = {}
  local function open(mode, fallback)
    mode = mode or "read"
    if opened[mode] then return opened[mode] end
    local path = cli.store_path(options)
    if not path and mode == "create" then path = fallback or sys.cwd() .. "/.pioche" end
    if not path then
      errors.raise("not_found", "no store: no .pioche/ in %s or above; "
        .. "`pioche run` makes one, --store or $PIOCHE_STORE names one", sys.cwd())
    end
    local how = mode
    if mode ~= "create" and sys.type(path .. "/pioche.db") ~= "file" then
      -- A standalone program needs no database to log: its run waits in
      -- staging/ for the first command that may make one.
      if mode == "read" or sys.type(path .. "/staging") ~= "dir" then
        errors.raise("not_found", "%s: not a store: there is no pioche.db in it", path)
      end
      how = "create"
    end
    local heard, done = cli.upgrade_progress()
    local store, message, code = core.open(path, how, { progress = heard })
    done()
    opened[mode] = errors.check(store, message, code)
    return opened[mode]
  end
  -- What the database does not know yet, and who reads cannot tell it.
  local function say_waiting(store)
    local count, known = 0, {}
    for _, name in ipairs(sys.list(store:path() .. "/staging") or {}) do
      if #name == 26 and name:find("^%w+$") then known[name], count = false, count + 1 end
    end
    if count == 0 then return end
    for row in store:each("SELECT ulid FROM run") do
      if known[row.ulid] == false then count = count - 1 end
    end
    if count > 0 then
      sys.write(2, string.format("pioche: %d run%s of standalone programs not shown: who may write the"
        .. " store has to run `pioche ls` once\n", count, count == 1 and " is" or "s are"))
    end
  end
  -- For verbs that read: with what live and standalone runs said since, where
  -- the store can be written; as it is, where not.
  local function reading()
    if opened.reading then return opened.reading end
    local ok, store = pcall(open, "write")
    if ok then
      local done, message, code = store:adopt()
      if not done and code ~= "busy" then
        sys.write(2, "pioche: what live runs said is not all here: " .. term.clean_lines(tostring(message))
          .. (code == "corrupt" and "; `pioche doctor --fix` sets it aside" or "") .. "\n")
      end
    else
      -- Why it cannot be made says more than that it is not there.
      local why = store
      ok, store = pcall(open, "read")
      if not ok then error(errors.is(store) and store.code == "not_found" and why or store, 0) end
      say_waiting(store)
    end
    opened.reading = raising(store)
    return opened.reading
  end
  -- For verbs that change what is on record. The store must be writable.
  local function writing()
    open("write")
    return reading()
  end
  local function checked(mode)
    return raising(open(mode))
  end
  local function close()
    for _, mode in ipairs { "read", "write", "create" } do
      if opened[mode] then opened[mode]:close() end
    end
  end
  return open, reading, writing, checked, close
end

-- What a command gets. Also used by tests.
function cli.context(args, options)
  local ctx = { args = args, options = options, json = options.json or false,
    csv = options.csv or false }
  if ctx.json and ctx.csv then usage_error("--json and --csv exclude each other") end
  ctx.stdout_tty = sys.isatty(1)
  local no_color = sys.getenv("NO_COLOR")
  ctx.color = ctx.stdout_tty and not options.no_color and not (no_color and no_color ~= "")
    and sys.getenv("TERM") ~= "dumb"
  local columns = math.tointeger(tonumber(sys.getenv("COLUMNS") or ""))
  ctx.cols = columns or (ctx.stdout_tty and sys.term_size()) or 80
  if ctx.cols < 20 then ctx.cols = 80 end
  ctx.store, ctx.reading, ctx.writing, ctx.checked, ctx.close = store_opener(options)
  ctx.out, ctx.flush = output(1)
  if ctx.stdout_tty and (ctx.json or ctx.csv) then
    local out = ctx.out -- what is exact for a program is still kept from ruling a terminal
    ctx.out = function(text) out((text:gsub("[^\r\n]+", term.clean))) end
  end
  ctx.encode = encode
  ctx.note = function(text)
    ctx.flush()
    sys.write(2, term.clean_lines(text))
  end
  return ctx
end

local function check_args(command, verb, args)
  local limits = command.args
  if not limits then return end
  local min, max = limits[1] or 0, limits[2] or math.maxinteger
  local usage = (command.usage or verb):match("^[^\n]*")
  if #args < min then
    usage_error("%s: expected %s; usage: pioche %s", verb,
      limits.what or (min .. " argument" .. (min == 1 and "" or "s")), usage)
  elseif #args > max then
    usage_error("%s: unexpected argument '%s'; usage: pioche %s", verb, args[max + 1], usage)
  end
  for _, choice in ipairs(limits.choices or {}) do
    if choice == args[1] then return end
  end
  if limits.choices then usage_error("%s: expected %s, got '%s'", verb, limits.what, args[1]) end
end

local function print_version(options)
  local version = sys.version and sys.version() or "unknown"
  if options.json then
    local json = require "pioche.core.json"
    sys.write(1, json.encode { pioche = version, contract = cli.contract } .. "\n")
  else
    sys.write(1, "pioche " .. version .. "\n")
  end
  return 0
end

-- The words that stand for a verb which only the project has.
local function alias(verb, before)
  local known = require "pioche.aliases".of(cli.store_path(select(2, cli.parse(before, 1))))
  if known[verb] then return known[verb] end
  local verbs = table.move(cli.verbs, 1, #cli.verbs, 1, {})
  for name in pairs(known) do verbs[#verbs + 1] = name end
  usage_error("unknown verb '%s'%s (`pioche help` lists them)", verb, errors.suggestion(verb, verbs))
end

local function run_verb(verb, argv, first, before)
  local command = cli.command(verb)
  if not command then
    local words = alias(verb, before)
    local line = table.move(argv, first, #argv, #words + 1, table.move(words, 1, #words, 1, {}))
    return run_verb(words[1], line, 2, before)
  end
  local words = table.move(argv, first, #argv, #before + 1, table.move(before, 1, #before, 1, {}))
  local args, options = cli.parse(words, 1, command.options)
  local ctx = cli.context(args, options)
  ctx.verb = verb
  for name, verbs in pairs(without) do
    if options[name] and verbs[verb] and not options.help then
      usage_error("--%s: %s %s", name, verb, verbs[verb])
    end
  end
  local ok, result
  if options.help then
    ctx.args, ctx.options = { verb }, {}
    command, args = cli.command("help"), ctx.args
  end
  ok, result = xpcall(function()
    check_args(command, verb, args)
    local status = command.run(ctx)
    ctx.flush()
    return status
  end, function(e)
    return errors.is(e) and e or debug.traceback(tostring(e), 2)
  end)
  if not ok then pcall(ctx.flush) end
  pcall(ctx.close)
  if not ok then error(result, 0) end
  return result or 0
end

local function dispatch(argv)
  local before, i = {}, 1
  while argv[i] and argv[i]:sub(1, 1) == "-" do
    if argv[i] == "--version" or argv[i] == "-V" or argv[i] == "-v" then
      local words = table.move(argv, i + 1, #argv, #before + 1, before)
      local _, options = cli.parse(words, 1)
      return print_version(options)
    elseif argv[i] == "-h" or argv[i] == "--help" then
      break
    end
    before[#before + 1] = argv[i]
    if argv[i] == "--store" and argv[i + 1] then
      i = i + 1
      before[#before + 1] = argv[i]
    end
    i = i + 1
  end
  local verb = argv[i]
  if verb == "version" and #argv == i then return print_version(select(2, cli.parse(before, 1))) end
  if not verb or verb == "-h" or verb == "--help" then
    cli.parse(before, 1)
    return run_verb("help", verb and argv or {}, i + 1, before)
  end
  return run_verb(verb, argv, i + 1, before)
end

-- Run a command line (without the program's name); returns the exit status.
function cli.main(argv)
  local ok, result = xpcall(dispatch, function(e)
    if errors.is(e) or (type(e) == "string" and e:find("\nstack traceback:", 1, true)) then
      return e
    end
    return debug.traceback(tostring(e), 2)
  end, argv)
  if ok then return result or 0 end
  if errors.is(result) then
    sys.write(2, "pioche: " .. term.clean_lines(result.message:gsub("%s+$", "")) .. "\n")
    return errors.exit_status(result.code)
  end
  sys.write(2, "pioche: a bug in pioche: " .. tostring(result) .. "\n")
  return 3
end

return cli
