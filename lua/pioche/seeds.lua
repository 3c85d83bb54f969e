-- seeds.lua: runs that differ in nothing but their seed, as one group.
local seeds = {}

-- A group a run.
function seeds.single(loaded)
  local groups = {}
  for i, run in ipairs(loaded) do groups[i] = { run } end
  return groups, false
end

-- Numbers 1, 2, ... for the runs so that two of them have the same one where they
-- had before and their marks (integers, or nil) are the same, too. How many there are.
local function refine(numbers, marks)
  local seen, count = {}, 0
  for i, number in ipairs(numbers) do
    local key = number << 32 | (marks[i] or -1) + 1
    if not seen[key] then
      count = count + 1
      seen[key] = count
    end
    numbers[i] = seen[key]
  end
  return count
end

-- What a parameter says to tell runs apart; a seed that is the run's own says nothing.
local function marks_of(loaded, param)
  if param.name ~= "seed" then return param.same end
  local marks = {}
  for i, run in ipairs(loaded) do
    marks[i] = param.values[i] ~= run.seed and param.same[i] or nil
  end
  return marks
end

local function marks_of_field(loaded, field)
  local marks, known, count = {}, {}, 0
  for i, run in ipairs(loaded) do
    local value = run[field] or ""
    if not known[value] then
      count = count + 1
      known[value] = count
    end
    marks[i] = known[value]
  end
  return marks
end

-- Runs that differ only in their seed and in what they said at their end,
-- together; a seed that came twice (a repeated run) stands in the same group.
-- `params` are those that are not the same in all. The second result: is there a group of more
-- than one?
function seeds.groups(loaded, params)
  local numbers, groups, grouped = {}, {}, false
  for i, run in ipairs(loaded) do
    if run.seed == nil then return seeds.single(loaded) end
    numbers[i] = 0
  end
  for _, param in ipairs(params) do
    if not param.name:find("^summary/") and refine(numbers, marks_of(loaded, param)) == #loaded then
      return seeds.single(loaded) -- no two are alike
    end
  end
  for _, field in ipairs { "experiment_id", "tree", "program", "launch", "from_checkpoint" } do
    refine(numbers, marks_of_field(loaded, field))
  end
  for i, number in ipairs(numbers) do
    local group = groups[number]
    if group then
      group[#group + 1] = loaded[i]
      grouped = true
    else
      groups[number] = { loaded[i] }
    end
  end
  return groups, grouped
end

return seeds
