-- completion: scripts that teach a shell to complete pioche's words.
local cli = require "pioche.cli"

local function verb_options(verb)
  local words, command = {}, cli.command(verb)
  for _, list in ipairs { command and command.options or {}, cli.globals } do
    for _, option in ipairs(list) do words[#words + 1] = "--" .. option.name end
  end
  return table.concat(words, " ")
end

-- Verbs whose arguments are files; those of the others are runs.
local of_files = { run = true, plan = true, verify = true }
local of_nothing = { doctor = true, sql = true }

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

local runs_query = "SELECT name || '/best' FROM experiment UNION SELECT name FROM experiment"
  .. " UNION SELECT name || '-' || number FROM (SELECT e.name, r.number FROM run r JOIN"
  .. " experiment e ON e.id = r.experiment_id ORDER BY r.id DESC LIMIT 200)"

local function bash()
  return table.concat {
    "# bash completion of pioche: source <(pioche completion bash)\n",
    "_pioche() {\n",
    "  local word=${COMP_WORDS[COMP_CWORD]} verb= i options=\n",
    "  for ((i = 1; i < COMP_CWORD; i++)); do\n",
    "    case ${COMP_WORDS[i]} in\n      --store) ((i++)) ;;\n      -*) ;;\n",
    "      *) verb=${COMP_WORDS[i]}; break ;;\n    esac\n  done\n",
    "  COMPREPLY=()\n",
    "  if [[ -z $verb ]]; then\n",
    "    COMPREPLY=($(compgen -W \"", table.concat(cli.verbs, " "), "\" -- \"$word\"))\n",
    "    return\n  fi\n",
    "  case $verb in\n", bash_cases(), "\n  esac\n",
    "  if [[ $word == -* ]]; then\n",
    "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n    return\n  fi\n",
    "  case $verb in\n",
    "    ", joined(of_files), ") COMPREPLY=($(compgen -f -- \"$word\")) ;;\n",
    "    ", joined(of_nothing), ") ;;\n",
    "    help) COMPREPLY=($(compgen -W \"", table.concat(cli.verbs, " "), "\" -- \"$word\")) ;;\n",
    "    completion) COMPREPLY=($(compgen -W \"bash zsh\" -- \"$word\")) ;;\n",
    "    *) COMPREPLY=($(compgen -W \"$(pioche sql \"", runs_query,
    "\" --csv 2>/dev/null | tail -n +2 | tr -d '\\r')\" -- \"$word\")) ;;\n",
    "  esac\n}\ncomplete -o filenames -F _pioche pioche\n",
  }
end

local function zsh()
  return "#compdef pioche\n# zsh completion of pioche: source <(pioche completion zsh)\n"
    .. "autoload -U +X bashcompinit && bashcompinit\n" .. bash()
end

local function run(ctx)
  ctx.out(ctx.args[1] == "zsh" and zsh() or bash())
  return 0
end

return {
  summary = "print a shell's completion script",
  usage = "completion bash|zsh",
  help = "Completes verbs, options, recipes and names of runs.",
  options = {},
  examples = "source <(pioche completion bash)",
  args = { 1, 1, what = "bash or zsh", choices = { "bash", "zsh" } },
  run = run,
}
