-- stats.lua: the little statistics that a comparison needs.
local core = require "pioche.core.sweep"
local format = require "pioche.format"

local stats = {}

-- { mean, std, n } of numbers; mean nil for none, std (n - 1) nil below two.
function stats.summary(values)
  if #values < 2 then return { mean = values[1], n = #values } end
  local n, mean, m2 = 0, 0.0, 0.0
  for _, value in ipairs(values) do
    n = n + 1
    local delta = value - mean
    mean = mean + delta / n
    m2 = m2 + delta * (value - mean)
  end
  return { mean = mean, n = n, std = math.sqrt(m2 / (n - 1)) }
end

-- Two-sided 95 % point of Student's t with `df` degrees of freedom, df >= 1:
-- a table, between its lines linear in 1 / df.
local points = {
  { 1, 12.7062 }, { 2, 4.3027 }, { 3, 3.1824 }, { 4, 2.7764 }, { 5, 2.5706 }, { 6, 2.4469 },
  { 7, 2.3646 }, { 8, 2.3060 }, { 9, 2.2622 }, { 10, 2.2281 }, { 15, 2.1314 }, { 20, 2.0860 },
  { 30, 2.0423 }, { 60, 2.0003 }, { 120, 1.9799 }, { math.huge, 1.9600 },
}

function stats.t95(df)
  if df <= 1 then return points[1][2] end
  for i = 2, #points do
    local a, b = points[i - 1], points[i]
    if df <= b[1] then
      local share = (1 / a[1] - 1 / df) / (1 / a[1] - 1 / b[1])
      return a[2] + (b[2] - a[2]) * share
    end
  end
  return points[#points][2]
end

-- Difference of two means and the half width of its 95 % interval (Welch), or
-- nil where either has fewer than two values.
function stats.welch(a, b)
  if not a.std or not b.std then return nil end
  local va, vb = a.std ^ 2 / a.n, b.std ^ 2 / b.n
  local difference = b.mean - a.mean
  if va + vb == 0 then return difference, 0.0 end
  local df = (va + vb) ^ 2 / (va ^ 2 / (a.n - 1) + vb ^ 2 / (b.n - 1))
  return difference, stats.t95(df) * math.sqrt(va + vb)
end

local function cell(column, i)
  return { mean = column.means[i], std = column.stds[i], n = column.counts[i] }
end

-- One line on the lead of the first row over the second in a column of compare.lua,
-- nil where the seeds cannot tell.
function stats.verdict(rows, column)
  local first, second = rows[1], rows[2]
  if not second or first.bad or second.bad or first.violates or second.violates then return nil end
  local difference, half = stats.welch(cell(column, 1), cell(column, 2))
  if not difference or difference ~= difference or half ~= half then return nil end
  difference = math.abs(difference)
  local texts = format.column({ difference, half }, 2, 3)
  local sure = difference > half
  return string.format("%s leads %s by %s ± %s in %s (95 %%): %s", first.name, second.name,
    texts[1], texts[2], column.title,
    sure and "more than the seeds' noise" or "within the seeds' noise")
end

local weighed_max = 64         -- rows, the best first, that may be the best of all
local sure = 0.95              -- below this nobody is called the best

-- Of each row, best first, the probability that its mean is the best, by the noise that all have
-- in common (core/sweep/race.h); nil where no row has two values, or there is one row. What violates
-- constraints is never the best, and comes behind all that may be.
function stats.chances(rows, column)
  local means, repeats, squares, freedom = {}, {}, 0, 0
  for i = 1, math.min(weighed_max, #rows) do
    local row, mean, std, n = rows[i], column.means[i], column.stds[i], column.counts[i]
    if row.bad or row.violates or not mean or mean - mean ~= 0 then break end
    means[i], repeats[i] = row.order, n
    if std then squares, freedom = squares + std ^ 2 * (n - 1), freedom + n - 1 end
  end
  if #means < 2 or freedom < 1 then return nil end
  return core.chances(means, repeats, squares, freedom)
end

-- Is the first row the best of all? One line; nil where nothing is known of the noise.
function stats.winner(rows, chances)
  if not chances then return nil end
  if chances[1] >= sure then
    return ("%s is the best of %d with probability %.2f"):format(rows[1].name, #chances, chances[1])
  end
  local words = {}
  for i = 1, math.min(3, #chances) do
    if chances[i] >= 0.01 then words[#words + 1] = ("%s %.2f"):format(rows[i].name, chances[i]) end
  end
  return ("not distinguishable which of %d is the best: %s"):format(#chances, table.concat(words, ", "))
end

return stats
