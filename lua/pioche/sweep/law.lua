-- sweep/law.lua: what a ladder found: its law, what to make of a budget, and how wrong its
-- predictions were. All of it from what is on record: no recipe is needed.
local errors = require "pioche.errors"
local format = require "pioche.format"
local json = require "pioche.core.json"
local scaling = require "pioche.scaling"
local tables = require "pioche.table"

local law = {}
local check = errors.check

-- Points of a ladder: { number, run, size, tokens, budget, loss (nil: none), forecast }.
local function read(store, sweep)
  local options, list = sweep.spec.search.options, {}
  for i, row in ipairs(check(store:rows([[
    SELECT p.number AS number, p.forecast AS forecast, p.observation AS observation,
           (SELECT e.name || '-' || r.number FROM proposal_run q JOIN run r ON r.id = q.run_id
              JOIN experiment e ON e.id = r.experiment_id
             WHERE q.sweep_id = p.sweep_id AND q.number = p.number ORDER BY q.seed LIMIT 1) AS run
      FROM proposal p WHERE p.sweep_id = ? AND p.number > 0 AND p.forecast IS NOT NULL
     ORDER BY p.number]], sweep.id))) do
    local said = check(json.decode(row.forecast))
    local came = row.observation and check(json.decode(row.observation)) or {}
    local metrics = came.metrics or {}
    list[i] = { number = row.number, run = row.run, size = said.size or metrics[options.params],
      tokens = said.tokens or metrics[options.tokens], budget = said.budget,
      loss = came.status == "finished" and came.value or nil, error = came.error, within = came.within,
      forecast = said.value and said or nil }
  end
  return list
end

-- Budgets at which the frontier is shown: those of the recipe, else what the largest point took;
-- and ten and a hundred times the last.
local function budgets_of(options, points)
  local list = table.move(options.budgets or {}, 1, #(options.budgets or {}), 1, {})
  if #list == 0 then
    local most = 0
    for _, point in ipairs(points) do most = math.max(most, options.flops * point.size * point.tokens) end
    list[1] = most
  end
  local last = list[#list]
  list[#list + 1], list[#list + 2] = 10 * last, 100 * last
  return list
end

-- { points, law, numbers, frontier, isoflop, why (there is no law) }; nil where the sweep is no ladder.
function law.of(store, sweep)
  if sweep.spec.search.name ~= "ladder" then return nil end
  local options, known = sweep.spec.search.options, {}
  local result = { points = read(store, sweep), numbers = {} }
  for _, point in ipairs(result.points) do
    if point.loss and point.size and point.tokens then known[#known + 1] = point end
  end
  result.law, result.why = scaling.fit(known, options.samples, options.seed)
  if result.law then
    for _, name in ipairs { "E", "alpha", "beta" } do
      result.numbers[name] = scaling.number(result.law, name)
    end
    result.frontier = scaling.frontier(result.law, budgets_of(options, known), options.flops)
  end
  if options.budgets then
    result.isoflop = scaling.isoflop(known, options.flops, options.samples, options.seed)
  end
  return result
end

-- ---- for scripts -------------------------------------------------------------------------

local function or_null(value)
  if value == nil then return json.null end
  return value
end

function law.json(found)
  local one, points = found.law, json.array {}
  for i, point in ipairs(found.points) do
    local said = point.forecast
    points[i] = { number = point.number, id = or_null(point.run), params = or_null(point.size),
      tokens = or_null(point.tokens), budget = or_null(point.budget), loss = or_null(point.loss),
      predicted = said and { value = said.value, low = said.low, high = said.high, points = said.points }
        or json.null, error = or_null(point.error), within = or_null(point.within) }
  end
  return { points = points, why = or_null(found.why),
    law = one and { E = one.E, A = one.A, B = one.B, alpha = one.alpha, beta = one.beta,
      terms = one.terms, points = one.count, intervals = found.numbers } or json.null,
    frontier = found.frontier and { exponent = found.frontier.exponent,
      rows = json.array(found.frontier.rows) }
      or json.null,
    isoflop = found.isoflop and { exponent = or_null(found.isoflop.exponent),
      rows = json.array(found.isoflop.rows) } or json.null }
end

-- ---- for people ------------------------------------------------------------------------------

local function range(item, form)
  form = form or "%.3g"
  return item.low and (form .. " (" .. form .. " to " .. form .. ")"):format(item.value, item.low, item.high)
    or form:format(item.value)
end

local function formula(one)
  local words = { ("L = %.4g"):format(one.E) }
  if one.terms ~= "tokens" then words[#words + 1] = ("%.4g N^-%.3f"):format(one.A, one.alpha) end
  if one.terms ~= "size" then words[#words + 1] = ("%.4g D^-%.3f"):format(one.B, one.beta) end
  return table.concat(words, " + ")
end

local one_term = { size = "tokens do not vary, or follow from the size: of them the law says nothing",
  tokens = "the size does not vary: of it the law says nothing" }

local function print_law(ctx, found)
  local one, numbers = found.law, found.numbers
  if not one then return ctx.out(("law      none yet: %s\n"):format(found.why)) end
  local words = { "E " .. range(numbers.E) }
  if one.terms ~= "tokens" then words[#words + 1] = "alpha " .. range(numbers.alpha) end
  if one.terms ~= "size" then words[#words + 1] = "beta " .. range(numbers.beta) end
  ctx.out(("law      %s, by %d points\n         %s, to 95 %%\n"):format(formula(one), one.count,
    table.concat(words, ", ")))
  if one_term[one.terms] then ctx.out("         " .. one_term[one.terms] .. "\n") end
end

local function print_frontier(ctx, frontier)
  local a = frontier.exponent
  ctx.out(("\nfrontier N goes with C^%.3f (%.3f to %.3f), D with C^%.3f\n"):format(a.value, a.low, a.high,
    1 - a.value))
  local rows = {}
  for i, row in ipairs(frontier.rows) do
    rows[i] = { ("%.3g"):format(row.budget), range(row.size), range(row.tokens), range(row.loss, "%.4g") }
  end
  tables.print(ctx, { { title = "C", align = "right" }, { title = "N", align = "right" },
    { title = "D", align = "right" }, { title = "loss", align = "right" } }, rows)
end

local function print_isoflop(ctx, isoflop)
  local rows = {}
  for i, row in ipairs(isoflop.rows) do
    rows[i] = { ("%.3g"):format(row.budget), ("%.3g"):format(row.size), ("%.3g"):format(row.tokens) }
  end
  ctx.out(("\nisoFLOP  %s\n"):format(isoflop.exponent and "N goes with C^" .. range(isoflop.exponent, "%.3f")
    or "fewer than two budgets have a lowest point within reach"))
  if #rows == 0 then return end
  tables.print(ctx, { { title = "C", align = "right" }, { title = "N", align = "right" },
    { title = "D", align = "right" } }, rows)
end

-- Each point: what was expected of it before it ran, and what came.
local function print_points(ctx, points)
  local rows = {}
  for i, point in ipairs(points) do
    local said = point.forecast
    rows[i] = { point.run or "", point.size and ("%.3g"):format(point.size) or "",
      point.tokens and ("%.3g"):format(point.tokens) or "", said and range(said, "%.4g") or "",
      point.loss and format.value(point.loss) or "",
      point.error and ("%+.2f %%%s"):format(100 * point.error, point.within and "" or " outside") or "" }
  end
  ctx.out("\n")
  tables.print(ctx, { { title = "run" }, { title = "N", align = "right" }, { title = "D", align = "right" },
    { title = "predicted", align = "right" }, { title = "came to", align = "right" },
    { title = "off by", align = "right" } }, rows)
end

function law.print(ctx, found)
  print_law(ctx, found)
  if found.frontier then print_frontier(ctx, found.frontier) end
  if found.isoflop then print_isoflop(ctx, found.isoflop) end
  print_points(ctx, found.points)
end

return law
