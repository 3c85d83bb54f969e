-- help: the manual: an overview of the verbs, or one verb in full.
local json = require "pioche.core.json"
local cli = require "pioche.cli"
local errors = require "pioche.errors"
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

RUN is gpt-17, a unique prefix of its ULID, gpt/best or gpt/last.
`pioche help VERB` explains a verb, `pioche help query` how runs are chosen:
pioche ls 'lr > 1e-3 and val/loss < 2'. `pioche --version` says which pioche this is.
]])
  return 0
end

local function option_line(ctx, option, cols)
  local label = "  " .. (option.short and ("-" .. option.short .. ", ") or "    ")
    .. "--" .. option.name .. (option.arg and (" " .. option.arg) or "")
  local column = 28
  local lines = term.wrap(option.help or "", math.max(20, math.min(cols, 100) - column))
  if term.width(label) >= column - 1 then
    ctx.out(label .. "\n")
    label = ""
  end
  for _, line in ipairs(lines) do
    ctx.out(term.pad(label, column) .. line .. "\n")
    label = ""
  end
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
    for _, option in ipairs(command.options) do option_line(ctx, option, ctx.cols) end
    ctx.out("\n")
  end
  heading(ctx, "options of every verb")
  for _, option in ipairs(cli.globals_of(verb)) do option_line(ctx, option, ctx.cols) end
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

-- What is explained beside the verbs.
local topics = { query = "pioche.query.manual" }

local function run(ctx)
  local verb = ctx.args[1]
  if topics[verb] then
    local text = require(topics[verb])()
    ctx.out(ctx.json and ctx.encode { topic = verb, text = text } .. "\n" or text)
    return 0
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
    errors.raise("usage", "unknown verb '%s'%s (`pioche help` lists them)", verb,
      errors.suggestion(verb, { "query", table.unpack(cli.verbs) }))
  end
  if ctx.json then
    ctx.out(ctx.encode(verb_json(verb, command)) .. "\n")
    return 0
  end
  return manual(ctx, verb, command)
end

return {
  summary = "explain a verb, or list them",
  usage = "help [VERB | query]",
  help = "Without VERB: the overview that `pioche` alone prints. query: the language of queries.",
  examples = "pioche help compare",
  options = {},
  args = { 0, 1 },
  run = run,
}
