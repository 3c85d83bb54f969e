-- completion: scripts that teach a shell to complete pioche's words.
local cli = require "pioche.cli"
local field = require "pioche.query.field"
local drill = require "pioche.drill"
local fields = require "pioche.fields"
local reference = require "pioche.reference"
local resolve = require "pioche.query.resolve"

local function verb_options(verb)
  local words, command = {}, cli.command(verb)
  for _, list in ipairs { command and command.options or {}, cli.globals_of(verb) } do
    for _, option in ipairs(list) do words[#words + 1] = "--" .. option.name end
  end
  return table.concat(words, " ")
end

-- Verbs whose arguments are files; those of the others are runs.
local of_files = { run = true, plan = true, import = true, verify = true, journal = true }
local of_nothing = { doctor = true, sql = true }
-- Words that a verb takes beside runs.
local words_of = { drill = drill.names, checkpoint = cli.command("checkpoint").names }

local nodes_query = "SELECT name FROM node"

local function bash_cases()
  local lines = {}
  for _, verb in ipairs(cli.verbs) do
    lines[#lines + 1] = string.format("    %s) options=%q ;;", verb, verb_options(verb))
  end
  return table.concat(lines, "\n")
end

local function joined(set)
  local list = {}
  for _, verb in ipairs(cli.verbs) do
    if set[verb] then list[#list + 1] = verb end
  end
  return table.concat(list, "|")
end

-- What help explains: verbs and parts of a recipe; behind a part and a point, its fields.
local function help_case()
  local groups, names = reference.names()
  local words = { query = true, recipe = true }
  for _, list in ipairs { groups, cli.verbs } do
    for _, word in ipairs(list) do words[word] = true end
  end
  return ("    help) words=%q; [[ $word != *.* ]] || words=%q\n"
    .. "      COMPREPLY=($(compgen -W \"$words\" -- \"$word\")) ;;\n"):format(
    table.concat(fields.sorted(words), " "), table.concat(names, " "))
end

local function word_cases()
  local lines = {}
  for _, verb in ipairs(cli.verbs) do
    if words_of[verb] then
      lines[#lines + 1] = string.format("    %s) words=%q ;;\n", verb, table.concat(words_of[verb], " "))
    end
  end
  return table.concat(lines)
end

local runs_query = "SELECT name || '/best' FROM experiment UNION SELECT name FROM experiment"
  .. " UNION SELECT name || '-' || number FROM (SELECT e.name, r.number FROM run r JOIN"
  .. " experiment e ON e.id = r.experiment_id ORDER BY r.id DESC LIMIT 200)"

-- Options whose value is a metric, and those that order by names.
local of_names = "--metric|-m|--minimize|--maximize|--sort"

-- Inside quotes, and behind an option that takes a name: the last name of what
-- stands there. What was written before it stays.
local names_case = "  if [[ $word == [\\'\\\"]* || $prev == @(" .. of_names .. ") ]]; then\n"
  .. "    local text=${word#[\\'\\\"]} last IFS=$'\\n'\n"
  .. "    last=${text##*[ (,<>=~!]}\n"
  .. "    COMPREPLY=($(compgen -W \"$(pioche completion names 2>/dev/null)\" -P \"${text%\"$last\"}\""
  .. " -- \"$last\"))\n"
  .. "    compopt -o nospace 2>/dev/null\n    return\n  fi\n"

local function bash()
  return table.concat {
    "# bash completion of pioche: source <(pioche completion bash)\n",
    "_pioche() {\n",
    "  local word=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} verb= i options= words=\n",
    "  for ((i = 1; i < COMP_CWORD; i++)); do\n",
    "    case ${COMP_WORDS[i]} in\n      --store) ((i++)) ;;\n      -*) ;;\n",
    "      *) verb=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n",
    "  COMPREPLY=()\n",
    "  if [[ -z $verb ]]; then\n",
    "    COMPREPLY=($(compgen -W \"", table.concat(cli.verbs, " "), "\" -- \"$word\"))\n",
    "    return\n  fi\n",
    names_case,
    "  case $verb in\n", bash_cases(), "\n  esac\n",
    "  if [[ $word == -* ]]; then\n",
    "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n    return\n  fi\n",
    "  case $verb in\n", word_cases(), "  esac\n",
    "  case $verb in\n",
    "    ", joined(of_files), ") COMPREPLY=($(compgen -f -- \"$word\")) ;;\n",
    "    ", joined(of_nothing), ") ;;\n",
    help_case(),
    "    nodes) COMPREPLY=($(compgen -W \"exclude clear $(pioche sql \"", nodes_query,
    "\" --csv 2>/dev/null | tail -n +2 | tr -d '\\r')\" -- \"$word\")) ;;\n",
    "    completion) COMPREPLY=($(compgen -W \"bash zsh\" -- \"$word\")) ;;\n",
    "    *) COMPREPLY=($(compgen -W \"$words $(pioche sql \"", runs_query,
    "\" --csv 2>/dev/null | tail -n +2 | tr -d '\\r')\" -- \"$word\")) ;;\n",
    "  esac\n}\ncomplete -o filenames -F _pioche pioche\n",
  }
end

local function zsh()
  return "#compdef pioche\n# zsh completion of pioche: source <(pioche completion zsh)\n"
    .. "autoload -U +X bashcompinit && bashcompinit\n" .. bash()
end

-- The names that a query may use, a line each; what a shell would take apart is
-- left out.
local function names(ctx)
  local ok, store = pcall(ctx.store, "read")
  local lists = { field.names }
  if ok then
    lists[2], lists[3] = resolve.param_names(store), resolve.metric_keys(store)
    lists[4] = {}
    for i, name in ipairs(resolve.tag_names(store)) do lists[4][i] = "tag." .. name end
  end
  for _, list in ipairs(lists) do
    for _, name in ipairs(list) do
      if name:match("^[%w_./:@%%#+-]+$") then ctx.out(name .. "\n") end
    end
  end
  return 0
end

local function run(ctx)
  if ctx.args[1] == "names" then return names(ctx) end
  ctx.out(ctx.args[1] == "zsh" and zsh() or bash())
  return 0
end

return {
  summary = "print a shell's completion script",
  usage = "completion bash|zsh",
  help = [[
Completes verbs, options, recipes, names of runs and, inside the quotes of a
query and behind --metric and --sort, names of fields, parameters, metrics and
tags. `pioche completion names` prints those.]],
  options = {},
  examples = "source <(pioche completion bash)\nsource <(pioche completion zsh)",
  args = { 1, 1, what = "bash or zsh", choices = { "bash", "zsh", "names" } },
  run = run,
}
