-- help: the manual: an overview of the verbs, or one verb in full.
local json = require "pioche.core.json"
local cli = require "pioche.cli"
local errors = require "pioche.errors"
local reference = require "pioche.reference"
local term = require "pioche.term"

local function heading(ctx, text)
  ctx.out(term.paint(text, "bold", ctx.color) .. "\n")
end

local function overview(ctx)
  ctx.out("pioche: plan, run, record and compare experiments\n\n")
  heading(ctx, "usage")
  ctx.out("  pioche VERB [ARGUMENT...] [OPTION...]\n\n")
  heading(ctx, "verbs")
  for _, verb in ipairs(cli.verbs) do
    local command = cli.command(verb)
    if command then
      ctx.out("  " .. term.paint(term.pad(verb, 12), "cyan", ctx.color) .. command.summary .. "\n")
    end
  end
  ctx.out("\n")
  heading(ctx, "first steps")
  ctx.out([[
  pioche plan recipe.lua          what would run
  pioche run recipe.lua lr=1e-3   run it; again: only what is missing
  pioche compare NAME             which run is better, and by what
  pioche export NAME/best -o x.tar

RUN is gpt-17, a unique prefix of its ULID, gpt/best or gpt/last. Of a sweep whose
points have several seeds gpt/best is the middle run of the point with the best mean.
`pioche help VERB` explains a verb, `pioche help recipe` all that a recipe may say,
`pioche help launch` a part of it, `pioche help query` how runs are chosen:
pioche ls 'lr > 1e-3 and val/loss < 2'. `pioche --version` says which pioche this is.
]])
  return 0
end

-- Texts, each in lines of its own, to the right of a label.
local function labelled(ctx, label, column, texts, style)
  if term.width(label) >= column - 1 then
    ctx.out(term.paint(label, style, ctx.color) .. "\n")
    label = ""
  end
  for _, text in ipairs(texts) do
    for _, line in ipairs(term.wrap(text, math.max(20, math.min(ctx.cols, 100) - column))) do
      ctx.out(term.paint(term.pad(label, column), style, ctx.color) .. line .. "\n")
      label = ""
    end
  end
end

local function option_line(ctx, option)
  local label = "  " .. (option.short and ("-" .. option.short .. ", ") or "    ")
    .. "--" .. option.name .. (option.arg and (" " .. option.arg) or "")
  labelled(ctx, label, 28, { option.help or "" })
end

-- Paragraphs of prose fill the width, up to 80 columns; one with an indented line
-- is a table or an example, and stays.
local function prose(ctx, text)
  for paragraph in (text:gsub("%s+$", "") .. "\n\n"):gmatch("(.-)\n\n+") do
    if not paragraph:find("^ ") and not paragraph:find("\n ") then
      paragraph = table.concat(term.wrap(paragraph, math.min(ctx.cols, 80)), "\n")
    end
    ctx.out(paragraph .. "\n\n")
  end
end

local exit_text = [[
  0    it is done
  1    the user's mistake, a run that failed, or a finding
  2    wrong usage
  3    the system failed
  130  interrupted
]]

local function manual(ctx, verb, command)
  heading(ctx, "pioche " .. verb)
  ctx.out("  " .. command.summary .. "\n\n")
  heading(ctx, "usage")
  for line in (command.usage or verb):gmatch("[^\n]+") do
    ctx.out("  pioche " .. line .. "\n")
  end
  ctx.out("\n")
  if command.help and command.help ~= "" then
    prose(ctx, command.help)
  end
  if command.options and #command.options > 0 then
    heading(ctx, "options")
    for _, option in ipairs(command.options) do option_line(ctx, option) end
    ctx.out("\n")
  end
  heading(ctx, "options of every verb")
  for _, option in ipairs(cli.globals_of(verb)) do option_line(ctx, option) end
  ctx.out("\n")
  if command.examples then
    heading(ctx, "examples")
    for line in command.examples:gmatch("[^\n]+") do ctx.out("  " .. line .. "\n") end
    ctx.out("\n")
  end
  heading(ctx, "exit status")
  ctx.out(command.exit_status or exit_text)
  return 0
end

local function verb_json(verb, command)
  local options = json.array {}
  for i, option in ipairs(command.options or {}) do
    options[i] = { name = option.name, short = option.short, arg = option.arg,
      multi = option.multi, help = option.help }
  end
  return { verb = verb, summary = command.summary, usage = command.usage, options = options }
end

-- ---- what is explained beside the verbs ------------------------------------------------

local recipe_head = [[
A recipe is a Lua file that returns a sweep, or a function that asks for runs one
after another. It is a deterministic program: without os, io, clock and chance, the
same file makes the same plan everywhere, and a mistake in it is told with file, line
and field by `pioche plan`, which launches nothing.

  local pioche = require "pioche"
  return pioche.sweep {
    name = "lm",
    program = pioche.program { command = { "python3", "train.py" }, sources = { "train.py" } },
    space = { lr = pioche.log_uniform(1e-4, 3e-2), width = { 64, 128 }, steps = 400 },
    goal = pioche.minimize "val/loss",
    launch = { ranks_per_node = 2 },
  }

`pioche help launch` shows one part of this page, `pioche help launch.hang_s` one
field; `pioche help recipe stop` does where there is a verb of that name.

]]

local label_max = 22           -- columns of a name that has its meaning beside it

local function print_groups(ctx, groups)
  for i, group in ipairs(groups) do
    if i > 1 then ctx.out("\n") end
    heading(ctx, group.name)
    ctx.out("  " .. group.title .. "\n\n")
    local column = 12
    for _, entry in ipairs(group.entries) do
      if #entry.name <= label_max then column = math.max(column, #entry.name + 4) end
    end
    for _, entry in ipairs(group.entries) do
      local expects = entry.expects and entry.expects
        .. (entry.required and " (required)" or " (default: " .. entry.default .. ")")
      labelled(ctx, "  " .. entry.name, column, { expects or entry.help, expects and entry.help }, "cyan")
    end
  end
end

local function groups_json(groups)
  local list = json.array {}
  for i, group in ipairs(groups) do
    local entries = json.array {}
    for j, entry in ipairs(group.entries) do
      entries[j] = { name = entry.name, expects = entry.expects, default = entry.default,
        required = entry.required, help = entry.help }
    end
    list[i] = { name = group.name, title = group.title, entries = entries }
  end
  return list
end

-- All that could be meant by a word that is not known.
local function known_words(more)
  local words, names = reference.names()
  table.move(names, 1, #names, #words + 1, words)
  return table.move(more, 1, #more, #words + 1, words)
end

-- The reference of recipes; with `word` only what it names, which is an error where
-- it names nothing.
local function recipe_topic(ctx, word)
  local groups = word and reference.find(word) or reference.groups()
  if #groups == 0 then
    errors.raise("usage", "a recipe has no '%s'%s (`pioche help recipe` tells all of it)", word,
      errors.suggestion(word, known_words {}))
  end
  if ctx.json then
    ctx.out(ctx.encode { topic = "recipe", groups = groups_json(groups) } .. "\n")
    return 0
  end
  if not word then prose(ctx, recipe_head) end
  print_groups(ctx, groups)
  return 0
end

local function query_topic(ctx, word)
  if word then
    errors.raise("usage", "help: unexpected argument '%s'; usage: pioche help query", word)
  end
  local text = require("pioche.query.manual")()
  ctx.out(ctx.json and ctx.encode { topic = "query", text = text } .. "\n" or text)
  return 0
end

local topics = { query = query_topic, recipe = recipe_topic }

local function run(ctx)
  local verb = ctx.args[1]
  if topics[verb] then return topics[verb](ctx, ctx.args[2]) end
  if ctx.args[2] then
    errors.raise("usage", "help: unexpected argument '%s'; usage: pioche help %s", ctx.args[2], verb)
  end
  if not verb and ctx.json then
    local list = json.array {}
    for _, name in ipairs(cli.verbs) do
      local command = cli.command(name)
      if command then list[#list + 1] = verb_json(name, command) end
    end
    ctx.out(ctx.encode(list) .. "\n")
    return 0
  end
  if not verb then return overview(ctx) end
  local command = cli.command(verb)
  if not command then
    if #reference.find(verb) > 0 then return recipe_topic(ctx, verb) end
    errors.raise("usage", "unknown verb '%s'%s (`pioche help` lists them)", verb,
      errors.suggestion(verb, known_words { "query", "recipe", table.unpack(cli.verbs) }))
  end
  if ctx.json then
    ctx.out(ctx.encode(verb_json(verb, command)) .. "\n")
    return 0
  end
  return manual(ctx, verb, command)
end

return {
  summary = "explain a verb, or list them",
  usage = "help [VERB | query | recipe [PART | FIELD] | PART | FIELD]",
  help = "Without VERB: the overview that `pioche` alone prints. query: the language of queries. recipe: all"
    .. " that a recipe, a project file and the words after a recipe may say; PART is a part of it, as launch,"
    .. " and FIELD a field, as launch.hang_s.",
  examples = "pioche help compare\npioche help recipe\npioche help launch.hang_s\npioche help recipe stop",
  options = {},
  args = { 0, 2 },
  run = run,
}
