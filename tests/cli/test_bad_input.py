#!/usr/bin/env python3
"""Bad recipes and bad command lines: the exact message, the exit status, and
that nothing was changed. In messages, {dir} stands for the project."""
import os
import re
import shutil
import subprocess
import sys
import tarfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
import harness  # noqa: E402
from harness import Project, Skip  # noqa: E402

GOOD = """local pioche = require "pioche"
return pioche.sweep {
  name = "w",
  program = pioche.program { command = { "true" } },
  space = { x = { 1, 2 } },
}
"""


def returning(text):
    """A recipe whose line 2 begins with this text."""
    return 'local pioche = require "pioche"\n' + text + "\n"


def sweep(space="x = { 1, 2 }", rest="", program='command = { "true" }'):
    """A recipe whose space stands on line 5 and whose rest on line 6."""
    return GOOD.replace("x = { 1, 2 }", space).replace('command = { "true" }', program).replace(
        "},\n}\n", "},\n  " + rest + "\n}\n")


# name: (recipe text, arguments after `plan recipe.lua`, exit status, exact message)
RECIPES = {
    "syntax error": (GOOD.replace("space = {","space = = {"), [], 1,
        "recipe.lua:5: unexpected symbol near '='"),
    "unknown key with a suggestion": (sweep(rest='seed = 3,'), [], 1,
        "recipe.lua:6: seed: there is no such key, did you mean 'seeds'?; expected one of "
        "constraints, from, goal, keep, launch, name, program, retry, search, seeds, space, stop, warm, where "
        "(`pioche help recipe`)"),
    "unknown key of launch": (sweep(rest='launch = { parralel = 3 },'), [], 1,
        "recipe.lua:6: launch.parralel: there is no such key, did you mean 'parallel'?; "
        "expected one of account, bind, constraint, cpus_per_rank, exclude, flags, gpus_per_node, grace_s, "
        "gres, hang_s, interface, join_s, mpi_env, nodes, on, parallel, partition, pool, preflight, qos, "
        "ranks_per_node, reservation, share_code, spares, telemetry, time, timeout_s, warn_s "
        "(`pioche help recipe launch`)"),
    "uniform low above high": (sweep("lr = pioche.uniform(3, 1)"), [], 1,
        "recipe.lua:5: space.lr: uniform(3, 1): low must be smaller than high"),
    "log uniform from zero": (sweep("lr = pioche.log_uniform(0, 1)"), [], 1,
        "recipe.lua:5: space.lr: log_uniform(0, 1): low must be > 0, because the logarithm of 0 "
        "is not a number"),
    "int low above high": (sweep("n = pioche.int(5, 2)"), [], 1,
        "recipe.lua:5: space.n: int(5, 2): low must be smaller than high"),
    "int of a fraction": (sweep("n = pioche.int(1.5, 3)"), [], 1,
        "recipe.lua:5: space.n: int(1.5, 3): low and high must be whole numbers"),
    "uniform of one number": (sweep("n = pioche.uniform(1)"), [], 1,
        "recipe.lua:5: space.n: uniform(1, nothing): expected two numbers, low and high"),
    "uniform of a string": (sweep('n = pioche.uniform("a", 3)'), [], 1,
        'recipe.lua:5: space.n: uniform("a", 3): low must be a finite number'),
    "empty list": (sweep("x = {}"), [], 1,
        "recipe.lua:5: space.x: an empty list has no choice: expected at least one value"),
    "a choice twice": (sweep("x = { 1, 2, 1 }"), [], 1,
        "recipe.lua:5: space.x: a list of choices: the choice 1 is there twice"),
    "a table where a scalar is due": (sweep("x = { 1, { 2 } }"), [], 1,
        "recipe.lua:5: space.x: item 2 of a list of choices is a table: expected a number, a "
        "string or a boolean"),
    "a table with names as choices": (sweep("x = { a = 1 }"), [], 1,
        "recipe.lua:5: space.x: a table with names is no list of choices: expected { 1, 2, 4 }, "
        "or pioche.one_of { ... }"),
    "where never true in a grid": (sweep(rest="where = function(p) return p.x > 2 end,"), [], 1,
        "recipe.lua:6: where: not true for any of the grid's 2 points"),
    "where never true at random": (
        sweep(rest="where = function(p) return p.x > 2 end, search = pioche.random { runs = 2 },"),
        [], 1,
        "recipe.lua:6: where: not true for any of the grid's 2 points"),
    "where returns a number": (sweep(rest="where = function(p) return 1 end,"), [], 1,
        "recipe.lua:6: where: the function returned 1: expected true or false"),
    "misspelt parameter in where": (
        sweep("width = { 1, 2 }",rest="where = function(p) return p.widht > 1 end,"), [], 1,
        "recipe.lua:6: there is no parameter 'widht'; did you mean 'width'? (in where)"),
    "unknown override": (sweep("width = { 1, 2 }"), ["widht=3"], 1,
        "widht=3: there is no parameter or setting 'widht'; did you mean 'width'?"),
    "override of wrong type": (GOOD, ["x=abc"], 1,
        "x=abc: expected a number, got 'abc'"),
    "override without value": (GOOD, ["x"], 2,
        "'x': expected NAME=VALUE after the recipe, as lr=3e-4"),
    "override with no text": (GOOD, ["x="], 1,
        "x=: expected a number, got ''"),
    "override twice the same": (GOOD, ["x=1,1"], 1,
        "x=1,1: 1 is there twice"),
    "override of int with fraction": (sweep("n = pioche.int(1, 3)"), ["n=1.5"], 1,
        "n=1.5: expected a whole number, got '1.5'"),
    "override of a boolean": (sweep("deep = { true, false }"), ["deep=yes"], 1,
        "deep=yes: expected true or false"),
    "override of a branch": (sweep("o = pioche.one_of { adam = {}, sgd = {} }"), ["o=adm"], 1,
        "o=adm: expected one of adam, sgd"),
    "dotted setting unknown": (GOOD, ["launch.paralel=2"], 1,
        "launch.paralel=2: there is no parameter or setting 'launch.paralel'; did you mean "
        "'launch.parallel'?"),
    "setting of wrong type": (GOOD, ["launch.parallel=many"], 1,
        "launch.parallel=many: expected a number, got 'many'"),
    "preflight of a list": (sweep(rest='launch = { preflight = { "shm" } },'), [], 1,
        'recipe.lua:6: launch.preflight: expected true, false or { bandwidth = "200 GB/s" }, got a table'),
    "preflight as a word": (sweep(rest='launch = { preflight = "yes" },'), [], 1,
        'recipe.lua:6: launch.preflight: expected true, false or { bandwidth = "200 GB/s" }, got "yes"'),
    "preflight at no speed": (sweep(rest='launch = { preflight = { bandwidth = "fast" } },'), [], 1,
        'recipe.lua:6: launch.preflight: expected true, false or { bandwidth = "200 GB/s" }; bandwidth is "fast"'),
    "preflight at a number": (sweep(rest='launch = { preflight = { bandwidth = 200 } },'), [], 1,
        'recipe.lua:6: launch.preflight: expected true, false or { bandwidth = "200 GB/s" }; bandwidth is 200'),
    "spares below zero": (sweep(rest="launch = { spares = -1 },"), [], 1,
        "recipe.lua:6: launch.spares: expected a whole number, at least 0, got -1"),
    "spares on one machine": (sweep(rest='launch = { on = "local", spares = 1 },'), [], 1,
        "recipe.lua:6: launch.spares: expected 0, because this machine is one node, got 1"),
    "limit of a hang below zero": (sweep(rest="launch = { hang_s = -1 },"), [], 1,
        "recipe.lua:6: launch.hang_s: expected a whole number, at least 0, got -1"),
    "limit of a hang as a word": (GOOD, ["launch.hang_s=never"], 1,
        "launch.hang_s=never: expected a number, got 'never'"),
    "setting of a table as a whole": (GOOD, ["launch.pool=16"], 1,
        'launch.pool=16: expected a table, as { nodes = 16, time = "4h" }'),
    "setting too small": (GOOD, ["retry.attempts=0"], 1,
        "retry.attempts=0: expected a whole number, at least 1"),
    "seeds override of wrong type": (GOOD, ["seeds=three"], 1,
        "seeds=three: expected a number, got 'three'"),
    "name of wrong type": (GOOD.replace('name = "w"','name = 3'), [], 1,
        "recipe.lua:3: name: expected a name of letters, digits, '.', '_' and '-', at most 200, "
        "got 3"),
    "name with a slash": (GOOD.replace('name = "w"','name = "a/b"'), [], 1,
        "recipe.lua:3: name: expected a name of letters, digits, '.', '_' and '-', at most 200, "
        'got "a/b"'),
    "name missing": (GOOD.replace('  name = "w",\n',''), [], 1,
        "recipe.lua:2: name is missing: expected the name of the experiment"),
    "program missing": (
        GOOD.replace('  program = pioche.program { command = { "true" } },\n',''), [], 1,
        "recipe.lua:2: program is missing: expected a pioche.program { ... }"),
    "program of wrong type": (
        GOOD.replace('pioche.program { command = { "true" } }','"true"'), [], 1,
        'recipe.lua:4: program: expected a pioche.program { ... }, got "true"'),
    "command of wrong type": (sweep(program='command = "true"'), [], 1,
        'recipe.lua:4: command: expected a list of strings, such as { "make", "gpt" }, got '
        '"true"'),
    "command missing": (sweep(program='sources = { "src" }'), [], 1,
        "recipe.lua:4: command is missing: expected the program and its first arguments, as { "
        '"./train" }'),
    "program file missing": (sweep(program='command = { "./train" }'), [], 1,
        'recipe.lua:4: command: there is no program "./train" ({dir}/train); does it need '
        "`build`?"),
    "program not in PATH": (sweep(program='command = { "no-such-program" }'), [], 1,
        'recipe.lua:4: command: there is no program "no-such-program" in PATH'),
    "program not executable": (sweep(program='command = { "./recipe.lua" }'), [], 1,
        'recipe.lua:4: command: "./recipe.lua" is not executable ({dir}/recipe.lua): chmod +x, '
        "or name its interpreter"),
    "sources missing": (sweep(program='command = { "true" }, sources = { "src" }'), [], 1,
        'recipe.lua:4: sources: there is no "src" in {dir}'),
    "sources outside": (sweep(program='command = { "true" }, sources = { "../src" }'), [], 1,
        'recipe.lua:4: sources: expected a list of paths inside the work tree, as "src"; '
        '"../src" leaves it'),
    "input file missing": (
        sweep(program='command = { "true" }, inputs = { data = "data.bin" }'), [], 1,
        'recipe.lua:4: inputs.data: there is no file or folder "data.bin" ({dir}/data.bin)'),
    "input named like a parameter": (
        sweep(program='command = { "true" }, inputs = { x = "recipe.lua" }'), [], 1,
        "recipe.lua:4: inputs.x: the space has a parameter of that name, too"),
    "args of wrong type": (
        sweep(program='command = { "true" }, args = function() return 3 end'), [], 1,
        "recipe.lua:4: args: the function returned 3: expected a list of words"),
    "args with nil arithmetic": (
        sweep(program='command = { "true" }, args = function(p) return { p.x + p.y } end'), [], 1,
        "recipe.lua:4: there is no parameter 'y'; did you mean 'x'? (in args)"),
    "infinite loop": (returning("while true do end"), [], 1,
        "recipe.lua:2: still planning after 50,000,000 instructions: an endless loop?"),
    "infinite loop in where": (sweep(rest="where = function(p) while true do end end,"), [], 1,
        "recipe.lua:6: still planning after 50,000,000 instructions: an endless loop? (in where)"),
    "os execute": (returning('os.execute("true")'), [], 1,
        "recipe.lua:2: os.execute is not available in a recipe: a recipe is a deterministic "
        "program: the same file makes the same plan on every machine, at every time; "
        "environment and time come from the program that runs"),
    "io open": (returning('local f = io.open("x")'), [], 1,
        "recipe.lua:2: io.open is not available in a recipe: a recipe is a deterministic "
        "program: the same file makes the same plan on every machine, at every time; files are "
        "`inputs` of a program"),
    "print": (returning('print("x")'), [], 1,
        "recipe.lua:2: print is not available in a recipe: a recipe is a deterministic program: "
        "the same file makes the same plan on every machine, at every time; `pioche plan` shows "
        "what the recipe means; lab:note(text) keeps a line"),
    "math random": (returning('local x = math.random()'), [], 1,
        "recipe.lua:2: math.random is not available in a recipe: a recipe is a deterministic "
        "program: the same file makes the same plan on every machine, at every time; ask for "
        "pioche.uniform or pioche.int in the space: those are drawn from the seed"),
    "assigning a global": (returning('width = 3'), [], 1,
        "recipe.lua:2: 'width' would be a global: write `local width`"),
    "unknown global with a suggestion": (returning('local n = tonumbr("3")'), [], 1,
        "recipe.lua:2: 'tonumbr' is not defined; did you mean 'tonumber'?"),
    "unknown word of pioche": (returning('local d = pioche.unifrom(0, 1)'), [], 1,
        "recipe.lua:2: pioche.unifrom: there is no such thing; did you mean 'uniform'?"),
    "require of a missing file": (returning('local d = require "lib"'), [], 1,
        "recipe.lua:2: require: there is no lib.lua beside the recipe, and nothing else can be "
        "required"),
    "retry budget of nothing": (sweep(rest="retry = { node_hours = 0 },"), [], 1,
        "recipe.lua:6: retry.node_hours: expected a number of hours, more than 0, got 0"),
    "retry budget as a word": (GOOD, ["retry.node_hours=2h"], 1,
        "retry.node_hours=2h: expected a number, got '2h'"),
    "retry exclude is no list": (sweep(rest='retry = { exclude = "dgx-001" },'), [], 1,
        'recipe.lua:6: retry.exclude: expected true or false, got "dgx-001"'),
    "retry attempts 0": (sweep(rest="retry = { attempts = 0 },"), [], 1,
        "recipe.lua:6: retry.attempts: expected a whole number, at least 1, got 0"),
    "ranks per node 0": (sweep(rest="launch = { ranks_per_node = 0 },"), [], 1,
        "recipe.lua:6: launch.ranks_per_node: expected a whole number, at least 1, got 0"),
    "nodes 0": (sweep(rest="launch = { nodes = 0 },"), [], 1,
        "recipe.lua:6: launch.nodes: expected a whole number, at least 1, got 0"),
    "nodes 2 on this machine": (sweep(rest='launch = { on = "local", nodes = 2 },'), [], 1,
        "recipe.lua:6: launch.nodes: expected 1, because this machine is one node, got 2"),
    "seeds as text": (sweep(rest='seeds = "three",'), [], 1,
        "recipe.lua:6: seeds: expected how many seeds (3), a list of them ({ 1, 2, 5 }), or "
        'pioche.race { max = 5 }, got "three"'),
    "seeds twice the same": (sweep(rest='seeds = { 1, 1 },'), [], 1,
        "recipe.lua:6: seeds: expected how many seeds (3), a list of them ({ 1, 2, 5 }), or "
        "pioche.race { max = 5 }; a seed is there twice"),
    "derived function that errors": (sweep("x = 1, y = function(p) return p.x .. {} end"), [], 1,
        "recipe.lua:5: attempt to concatenate a table value (in space.y)"),
    "derived function that says error": (sweep("x = 1, y = function(p) error('no way') end"), [], 1,
        "recipe.lua:5: no way (in space.y)"),
    "derived that returns nil": (sweep("x = 1, y = function(p) end"), [], 1,
        "recipe.lua:5: space.y: the function returned nothing: expected a number, a string or a "
        "boolean"),
    "derived that depends on itself": (
        sweep("x = function(p) return p.y end, y = function(p) return p.x end"), [], 1,
        "recipe.lua:5: space.x: depends on itself (in space.y) (in space.x)"),
    "unknown sampler": (sweep(rest='search = pioche.bayes { runs = 3 },'), [], 1,
        "recipe.lua:6: pioche.bayes: there is no such thing; there are asha, auto, checkpoint, "
        "choice, cma_es, constraint, curve, gp, grid, hyperband, int, ladder, log_int, log_uniform, maximize, "
        "median, minimize, none, nsga2, objective, one_of, pb2, pbt, percentile, program, race, random, rule, "
        "sampler, sobol, sweep, tpe, trust_region, uniform"),
    "sampler as a word": (sweep(rest='search = "random",'), [], 1,
        'recipe.lua:6: search: expected one of pioche.auto {...}, cma_es, gp, grid, nsga2, pb2, pbt, random, '
        'sampler, sobol, tpe, trust_region, got "random"'),
    "runs 0": (sweep(rest='search = pioche.random { runs = 0, seed = 1 },'), [], 1,
        "recipe.lua:6: search.runs: expected a whole number, at least 1, got 0"),
    "goal without key": (sweep(rest='goal = pioche.minimize(),'), [], 1,
        'recipe.lua:6: minimize: expected the name of a metric, such as "val/loss", got nothing'),
    "goal of wrong type": (sweep(rest='goal = "val/loss",'), [], 1,
        'recipe.lua:6: goal: expected pioche.minimize "metric", pioche.maximize "metric", or a list of such, '
        'got "val/loss"'),
    "continuous domain in grid": (
        sweep("x = pioche.uniform(0, 1)",rest='search = pioche.grid {},'), [], 1,
        "recipe.lua:5: space.x: uniform(0, 1) has no end of values: a grid needs a list, or "
        'search = pioche.grid { ["x"] = 5 }'),
    "returns nothing": (returning(""), [], 1,
        "recipe.lua: a recipe returns a pioche.sweep { ... } or a function(lab), this one "
        "returned nothing"),
    "returns a program": (returning('return pioche.program { command = { "true" } }'), [], 1,
        "recipe.lua: a recipe returns a pioche.sweep { ... } or a function(lab), this one "
        "returned a pioche.program"),
    "recipe file missing": (None, [], 1,
        "recipe.lua: there is no such recipe"),
    "recipe empty": ("", [], 1,
        "recipe.lua: a recipe returns a pioche.sweep { ... } or a function(lab), this one "
        "returned nothing"),
    "a key twice": (sweep("x = 1, x = 2"), [], 1,
        "recipe.lua:5: space.x: given twice in one table (first in line 5); Lua would keep only "
        "one of them"),
    "space of wrong type": (GOOD.replace("space = { x = { 1, 2 } }","space = 3"), [], 1,
        "recipe.lua:5: space: expected a table of parameters, got 3"),
    "checkpoint without a store": (sweep(rest='from = "w-1",'), [], 1,
        'recipe.lua:6: from: "w-1": there is no store to look it up in'),
    "compiled lua": ("\x1bLua", [], 1,
        "recipe.lua: compiled Lua is no recipe: expected source text"),
    "lab error before anything": (
        returning('return function(lab)\n  lab:run { name = "a" }\nend'), [], 1,
        "recipe.lua:3: program is missing: expected a pioche.program { ... }"),
    "lab run of wrong type": (returning('return function(lab)\n  lab:run(3)\nend'), [], 1,
        "recipe.lua:3: lab:run: expected { program = ..., params = ... }, got 3"),
    "lab unknown method": (returning('return function(lab)\n  lab:sweap {}\nend'), [], 1,
        "recipe.lua:3: a lab has no 'sweap'; did you mean 'sweep'?"),
    "lab with override": (returning('return function(lab)\nend'), ["x=1"], 1,
        "x=1: recipe.lua is a function of a lab, which has no parameters to override"),
    "env of wrong type": (sweep(program='command = { "true" }, env = { A = {} }'), [], 1,
        "recipe.lua:4: env: expected a table of names and values; A is a table"),
}

# name: (arguments, exit status, exact message: on stdout where stderr is empty)
COMMANDS = {
    "unknown verb": (["comapre", "w"], 2,
        "unknown verb 'comapre'; did you mean 'compare'? (`pioche help` lists them)"),
    "unknown option": (["ls", "--limt", "3"], 2,
        "unknown option '--limt'; did you mean '--limit'?"),
    "missing argument": (["show"], 2,
        "show: expected one RUN; usage: pioche show RUN [--metric KEY]... [--ranks] "
        "[--environment] [--texts] [--events] [--all]"),
    "too many arguments": (["verify", "a.tar", "b.tar", "c.tar"], 1,
        "a.tar: no such file"),
    "a value that no option takes": (["chart", "w", "--smooth", "x"], 2,
        "--smooth: expected a number, got 'x'"),
    "unknown run": (["show", "w-9"], 1,
        "no run 'w-9': 'w' has 2 runs, the newest is w-2"),
    "unknown experiment suggestion": (["show", "v-1"], 1,
        "no run 'v-1'; did you mean 'w-1'?"),
    "compare unknown": (["compare", "ww"], 1,
        "no run or experiment 'ww'; did you mean 'w'?"),
    "sql syntax": (["sql", "SELEC 1"], 1,
        'SQL: near "SELEC": syntax error'),
    "sql writes": (["sql", "DELETE FROM run"], 1,
        "SQL: this statement writes, and the store is only read here"),
    "sql missing table": (["sql", "SELECT * FROM runs"], 1,
        "SQL: no such table: runs"),
    "export over": (["export", "w-1", "-o", "recipe.lua"], 1,
        "recipe.lua: exists already; --force replaces it"),
    "verify no bundle": (["verify", "recipe.lua"], 1,
        "bad: recipe.lua: Unrecognized archive format: cut short or no tar archive"),
    "verify missing": (["verify", "x.tar"], 1,
        "x.tar: no such file"),
    "stop finished": (["stop", "w-1"], 0,
        "w-1 is finished already"),
    "nodes word": (["nodes", "exlude", "dgx-001"], 2,
        "nodes: expected exclude, clear or pools, got 'exlude'"),
    "nodes exclude nobody": (["nodes", "exclude"], 2,
        "nodes exclude: expected the NAME of a node"),
    "nodes exclude a list": (["nodes", "exclude", "dgx-[1-3]"], 2,
        "nodes: 'dgx-[1-3]': expected the name of one node, as dgx-017"),
    "nodes exclude for ever": (["nodes", "exclude", "dgx-001", "--for", "ever"], 2,
        "--for: expected a duration as 90s, 12h or 2d, got 'ever'"),
    "nodes exclude for nothing": (["nodes", "exclude", "dgx-001", "--for", "0s"], 2,
        "--for: expected a duration as 90s, 12h or 2d, got '0s'"),
    "nodes why without whom": (["nodes", "--why", "fan"], 2,
        "nodes: --why goes with `nodes exclude NAME`"),
    "nodes clear unknown": (["nodes", "clear", "dgx-999"], 1,
        "no node 'dgx-999' has run anything"),
    "logs rank": (["logs", "w-1", "--rank", "3"], 1,
        "attempt 1 of w-1 has no rank 3: ranks are 0 to 0"),
    "logs ranks word": (["logs", "w-1", "--rank", "0,x"], 2,
        "--rank: expected numbers and ranges, as 0,3-5, or all, got '0,x'"),
    "logs ranks range": (["logs", "w-1", "--rank", "5-3"], 2,
        "--rank: the range '5-3' ends before it begins"),
    "logs grep": (["logs", "w-1", "--grep", "a(b"], 2,
        "--grep: 'a(b' is no regular expression: Unmatched ( or \\("),
    "logs ignore case": (["logs", "w-1", "--ignore-case"], 2,
        "--ignore-case belongs to --grep PATTERN"),
    "logs follow json": (["logs", "w-1", "--follow", "--json"], 2,
        "--follow prints lines as they come: without --json and --csv"),
    "store none": (["--store", "/nowhere", "ls"], 1,
        "/nowhere: not a store: there is no pioche.db in it"),
    "limit abc": (["ls", "--limit", "abc"], 2,
        "--limit: expected an integer, got 'abc'"),
    "json csv": (["ls", "--json", "--csv"], 2,
        "--json and --csv exclude each other"),
    "limit no value": (["ls", "--limit"], 2,
        "--limit: expected a value after it"),
    "ulid prefix": (["show", "01"], 1,
        "no run '01'"),
    "status unknown": (["ls", "--status", "done"], 2,
        "--status: unknown status 'done'; expected some of planned, queued, running, finished, "
        "failed, stopped, cancelled"),
    "plan none": (["plan"], 2,
        "plan: expected a recipe; usage: pioche plan RECIPE [NAME=VALUE...] [--script] [--on WHERE]"),
    "run none": (["run"], 2,
        "run: expected a recipe; usage: pioche run RECIPE [NAME=VALUE...] [--again] [--extend] [--on WHERE]"),
    "again value": (["run", "recipe.lua", "--again=3"], 2,
        "--again: takes no value, got '3'"),
    "short": (["ls", "-q"], 2,
        "unknown option '-q'"),
}


def listing(p):
    found = []
    for base, dirs, files in os.walk(p.dir):
        dirs.sort()
        for name in sorted(files):
            path = os.path.join(base, name)
            with open(path, "rb") as f:
                found.append((path, f.read()))
    return found


def message_of(p, result):
    return result.err.strip().removeprefix("pioche: ").replace(p.dir, "{dir}")


def check_recipe(name):
    text, arguments, status, message = RECIPES[name]
    with Project(git=False) as p:
        if text is not None:
            p.write("recipe.lua", text)
        before = listing(p)
        for verb in ("plan", "run"):
            result = p.pioche(verb, "recipe.lua", *arguments, expect=status)
            assert message_of(p, result) == message, (
                f"{verb}\nexpected: {message}\n  actual: {message_of(p, result)}")
            assert listing(p) == before, f"{verb} changed something"


def check_command(name):
    arguments, status, message = COMMANDS[name]
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        result = p.pioche(*arguments, expect=status)
        said = message_of(p, result) or result.out.strip()
        assert said == message, f"expected: {message}\n  actual: {said}"
        p.check_store()
        assert len(p.sql("SELECT 1 FROM run")) == 2


for _name in RECIPES:
    globals()["test_recipe_" + _name.replace(" ", "_")] = lambda name=_name: check_recipe(name)
for _name in COMMANDS:
    globals()["test_command_" + _name.replace(" ", "_")] = lambda name=_name: check_command(name)


def logged(p):
    """Two runs that logged val/loss."""
    harness.python_library()
    p.write("t.py", 'import pioche\nwith pioche.init() as run:\n'
                    '    run.log({"val/loss": 1.0}, step=1)\n')
    p.write("recipe.lua", sweep(program='command = { "python3", "t.py" }'))
    p.pioche("run", "recipe.lua")


def test_unknown_metric_with_a_suggestion():
    with Project(git=False) as p:
        logged(p)
        for verb in ("chart", "compare"):
            result = p.pioche(verb, "w", "--metric", "val/los", expect=1)
            assert message_of(p, result) == (
                "none of these runs has logged 'val/los'; did you mean 'val/loss'?"), result.err
        p.write("recipe.lua", p.read("recipe.lua").replace(
            'name = "w"', 'goal = pioche.minimize "val_loss", name = "w"'))
        result = p.pioche("run", "recipe.lua", expect=1)
        assert ("goal: 'val_loss' is not among what w-3 logged: val/loss; did you mean 'val/loss'?"
                in result.err), result.err


def test_the_beginning_of_several_ulids():
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        rows = p.sql("SELECT ulid, number FROM run ORDER BY ulid")
        prefix = os.path.commonprefix([r["ulid"] for r in rows])
        both = ", ".join(f"{r['ulid']} (w-{r['number']})" for r in rows)
        result = p.pioche("show", prefix, expect=1)
        assert message_of(p, result) == (
            f"'{prefix}' is the beginning of several runs: {both}"), result.err


def test_a_damaged_bundle_is_named_with_the_file_in_it():
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        p.pioche("export", "w-1", "-o", "b.tar")
        with tarfile.open(p.path("b.tar")) as tar:
            at = tar.getmember("w-1/data/run/config.json").offset_data
        with open(p.path("b.tar"), "r+b") as f:
            f.seek(at)
            byte = f.read(1)[0]
            f.seek(at)
            f.write(bytes([byte ^ 1]))
        result = p.pioche("verify", "b.tar", expect=1)
        assert re.fullmatch("bad: data/run/config.json: SHA-256 is [0-9a-f]{64}, "
                            "manifest-sha256.txt says [0-9a-f]{64}\n", result.out), result.out


def test_store_of_a_newer_version_is_refused_untouched():
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        p.sql("PRAGMA user_version = 99")
        for verb in (["ls"], ["run", "recipe.lua"], ["compare", "w"]):
            result = p.pioche(*verb, expect=1)
            assert "newer pioche" in result.err and "99" in result.err, result.err
        assert p.sql("PRAGMA user_version") == [{"user_version": 99}]


def test_store_that_cannot_be_written():
    if os.getuid() == 0 and not shutil.which("setpriv"):
        raise Skip("setpriv is missing, and root may write everything")
    with Project(git=False) as p:
        p.write("recipe.lua", GOOD)
        p.pioche("run", "recipe.lua")
        subprocess.run(["chmod", "-R", "a+rX,a-w", p.store], check=True)
        os.chmod(p.dir, 0o755)
        prefix = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"] if os.getuid() == 0 else []

        def as_nobody(*args):
            return subprocess.run([*prefix, harness.PIOCHE, *args], cwd=p.dir, env=p.env,
                                  capture_output=True, text=True)
        done = as_nobody("ls", "--json")
        assert done.returncode == 0 and len(harness.json.loads(done.stdout)) == 2, done
        p.write("other.lua", GOOD.replace("{ 1, 2 }", "{ 3 }"))
        done = as_nobody("run", "other.lua")
        assert done.returncode in (1, 3) and p.store in done.stderr, done


def test_full_disk():
    if os.getuid() != 0:
        raise Skip("only root may mount a small tmpfs")
    with Project(git=False) as p:
        os.makedirs(p.store)
        if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", p.store],
                          capture_output=True).returncode:
            raise Skip("mount is not allowed here")
        try:
            p.write("recipe.lua", GOOD)
            result = p.pioche("run", "recipe.lua", expect=3)
            assert "no space left" in result.err.lower(), result.err
            subprocess.run(["mount", "-o", "remount,size=50m", p.store], check=True)
            p.pioche("run", "recipe.lua")
            p.check_store()
            assert len(p.sql("SELECT 1 FROM run WHERE status = 'finished'")) == 2
        finally:
            subprocess.run(["umount", p.store], check=True)


def test_no_store():
    with Project(git=False) as p:
        for verb in (["ls"], ["compare", "w"], ["show", "w-1"], ["sql", "SELECT 1"]):
            result = p.pioche(*verb, expect=1)
            assert "no store" in result.err, result.err
        assert not os.path.exists(p.store)


harness.main()
