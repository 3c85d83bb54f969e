-- query/metric.lua: SQL of a metric's statistics over rows s of `series`, as the
-- index series_by_key has them.
local metric = {}

metric.stat_expr = {
  last = "coalesce(s.last_int, s.last)", min = "s.min", max = "s.max",
  mean = "(coalesce(s.sum, 0.0) + coalesce(s.sum_low, 0.0)) / nullif(s.finite, 0)",
  count = "s.count", first_step = "s.first_step", last_step = "s.last_step",
}

-- Shown unless a rank is asked for: rank 0, or the lowest that logged the key.
metric.lowest_rank = "(s.rank = 0 OR NOT EXISTS (SELECT 1 FROM series t WHERE t.key = s.key"
  .. " AND t.run_id = s.run_id AND t.rank < s.rank))"

-- True where `last` is a NaN.
metric.last_is_nan = "(s.last IS NULL AND s.last_bits IS NOT NULL)"

-- Is the metric (pioche.query.resolve) one value of all ranks?
function metric.is_reduced(spec)
  return type(spec.rank) == "string"
end

-- A statistic of all ranks of a run, over a group of their rows: NaN is left
-- out, and a mean is over finite values. argmax: the rank of the largest.
function metric.reduced(reduction, stat)
  local expr = metric.stat_expr[stat]
  if reduction == "mean" then
    return string.format("avg(CASE WHEN abs(%s) <= 1.7976931348623157e308 THEN %s END)", expr, expr)
  elseif reduction == "argmax" then
    return string.format("(CASE WHEN max(%s) IS NOT NULL THEN s.rank END)", expr)
  end
  return string.format("%s(%s)", reduction, expr)
end

return metric
