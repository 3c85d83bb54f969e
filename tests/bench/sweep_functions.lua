-- Functions for sweeps whose least value is known: { name, space = function(pioche) -> table,
-- value = function(p, number), least }, or of several goals { name, space,
-- values = function(p) -> list, reference, most (volume) }; constraints = list of functions of p, each
-- 0 or less where it is met. sweep_optuna.py has the same for Optuna, and
-- sweep.py checks that they are.
local functions = {}

local function cube(count, low, high)
  return function(pioche)
    local space = {}
    for i = 1, count do space[("x%02d"):format(i)] = pioche.uniform(low, high) end
    return space
  end
end

local function list(p, count)
  local x = {}
  for i = 1, count do x[i] = p[("x%02d"):format(i)] end
  return x
end

-- Where the optimum of a function that has it in the middle of the box is moved to.
local function shift(i)
  return ((i * 37) % 19) / 19 - 0.5
end

local function branin(x, y)
  local bow = y - 5.1 / (4 * math.pi ^ 2) * x ^ 2 + 5 / math.pi * x - 6
  return bow ^ 2 + 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
end

local hartmann_a = { { 10, 3, 17, 3.5, 1.7, 8 }, { 0.05, 10, 17, 0.1, 8, 14 },
  { 3, 3.5, 1.7, 10, 17, 8 }, { 17, 8, 0.05, 10, 0.1, 14 } }
local hartmann_p = { { 1312, 1696, 5569, 124, 8283, 5886 }, { 2329, 4135, 8307, 3736, 1004, 9991 },
  { 2348, 1451, 3522, 2883, 3047, 6650 }, { 4047, 8828, 8732, 5743, 1091, 381 } }
local hartmann_c = { 1, 1.2, 3, 3.2 }

local function hartmann(x)
  local sum = 0
  for i = 1, 4 do
    local inner = 0
    for j = 1, 6 do inner = inner + hartmann_a[i][j] * (x[j] - hartmann_p[i][j] / 10000) ^ 2 end
    sum = sum - hartmann_c[i] * math.exp(-inner)
  end
  return sum
end

local function rosenbrock(x)
  local sum = 0
  for i = 1, #x - 1 do sum = sum + 100 * (x[i + 1] - x[i] ^ 2) ^ 2 + (x[i] - 1) ^ 2 end
  return sum
end

local function levy(x)
  local w = {}
  for i = 1, #x do w[i] = 1 + (x[i] - 1) / 4 end
  local n = #x
  local sum = math.sin(math.pi * w[1]) ^ 2 + (w[n] - 1) ^ 2 * (1 + math.sin(2 * math.pi * w[n]) ^ 2)
  for i = 1, n - 1 do sum = sum + (w[i] - 1) ^ 2 * (1 + 10 * math.sin(math.pi * w[i] + 1) ^ 2) end
  return sum
end

local function rastrigin(x, scale)
  local sum = 0
  for i = 1, #x do
    local z = x[i] - scale * shift(i)
    sum = sum + 10 + z ^ 2 - 10 * math.cos(2 * math.pi * z)
  end
  return sum
end

local function ackley(x, scale)
  local squares, waves, n = 0, 0, #x
  for i = 1, n do
    local z = x[i] - scale * shift(i)
    squares, waves = squares + z ^ 2, waves + math.cos(2 * math.pi * z)
  end
  return 20 + math.exp(1) - 20 * math.exp(-0.2 * math.sqrt(squares / n)) - math.exp(waves / n)
end

local function mixed(p)
  local kind = ({ relu = 0, gelu = 0.3, silu = 0.1, tanh = 1 })[p.act]
  return (math.log(p.lr, 10) + 2.7) ^ 2 + (math.log(p.decay, 10) + 4.2) ^ 2 / 4 + (p.depth - 7) ^ 2 / 9
    + (math.log(p.width, 2) - 7.6) ^ 2 / 2 + kind + (p.norm and 0 or 0.4) + 3 * (p.drop - 0.12) ^ 2
    + (p.act == "relu" and 0.8 * math.abs(p.mix - 0.7) or math.abs(p.mix - 0.2)) + (p.beta - 0.9) ^ 2
end

-- "plain" is good wherever one looks, "sharp" only in a corner, but better there.
local function trap(p)
  if p.kind == "plain" then return 1 + 0.5 * ((p["kind.a"] - 0.3) ^ 2 + (p["kind.b"] - 0.6) ^ 2) end
  if p.kind == "flat" then return 2 + p["kind.c"] end
  local far = (p["kind.a"] - 0.15) ^ 2 + (p["kind.b"] - 0.85) ^ 2 + (p.scale - 0.5) ^ 2
  return 3 - 3 * math.exp(-6 * far)
end

local function griewank(x)
  local sum, product = 0, 1
  for i = 1, #x do
    local z = x[i] - 60 * shift(i)
    sum, product = sum + z ^ 2 / 4000, product * math.cos(z / math.sqrt(i))
  end
  return 1 + sum - product
end

local function styblinski_tang(x)
  local sum = 0
  for i = 1, #x do sum = sum + (x[i] ^ 4 - 16 * x[i] ^ 2 + 5 * x[i]) / 2 end
  return sum
end

local function michalewicz(x)
  local sum = 0
  for i = 1, #x do sum = sum - math.sin(x[i]) * math.sin(i * x[i] ^ 2 / math.pi) ^ 20 end
  return sum
end

local function dixon_price(x)
  local sum = (x[1] - 1) ^ 2
  for i = 2, #x do sum = sum + i * (2 * x[i] ^ 2 - x[i - 1]) ^ 2 end
  return sum
end

local function sphere(x, scale)
  local sum = 0
  for i = 1, #x do sum = sum + (x[i] - scale * shift(i)) ^ 2 end
  return sum
end

-- Axes a thousand times as steep as others, at an angle to the parameters.
local function ellipsoid(x)
  local z, sum = {}, 0
  for i = 1, #x do z[i] = x[i] - 5 * shift(i) end
  for i = 1, #x - 1 do
    local c, s = math.cos(0.7), math.sin(0.7)
    z[i], z[i + 1] = c * z[i] - s * z[i + 1], s * z[i] + c * z[i + 1]
  end
  for i = 1, #x do sum = sum + 1000 ^ ((i - 1) / (#x - 1)) * z[i] ^ 2 end
  return sum
end

local function zakharov(x)
  local sum, line = 0, 0
  for i = 1, #x do sum, line = sum + x[i] ^ 2, line + 0.5 * i * x[i] end
  return sum + line ^ 2 + line ^ 4
end

-- Like the loss of a model: the best rate depends on width and batch, what is too fast
-- diverges, and most of it matters little.
local function training(p)
  local best_lr = -2.3 - 0.5 * (math.log(p.width, 2) - 7) / 2 + 0.25 * (math.log(p.batch, 2) - 6) / 2
  local off = math.log(p.lr, 10) - best_lr
  if off > 1.1 then return 8 + off end
  local capacity = 1.9 * (p.width * p.depth / 64) ^ -0.25
  local fit = off < 0 and 0.25 * off ^ 2 or 0.9 * off ^ 2
  return 1.6 + capacity + fit + 0.05 * (math.log(p.decay, 10) + 2.5) ^ 2
    + 0.8 * (p.drop - 0.1 * p.depth / 8) ^ 2
    + (p.optimizer == "adamw" and 0 or 0.12) + 0.03 * math.abs(math.log(p.batch, 2) - 6)
    + 0.02 * (p.warmup - 0.06) ^ 2 / 0.01
end

-- A noise of the run's number: of a normal distribution, nearly.
local function noise(number)
  local sum = 0
  for i = 1, 12 do sum = sum + (math.sin(number * 12.9898 + i * 78.233) * 43758.5453) % 1 end
  return sum - 6
end

-- ZDT1 and ZDT2 (Zitzler, Deb, Thiele, Evolutionary Computation 8(2) 2000) and DTLZ2 (Deb et al.,
-- CEC 2002): two goals, and three.
local function zdt(x, shape)
  local sum = 0
  for i = 2, #x do sum = sum + x[i] end
  local g = 1 + 9 * sum / (#x - 1)
  return { x[1], g * (1 - shape(x[1] / g)) }
end

local function dtlz2(x)
  local g = 0
  for i = 3, #x do g = g + (x[i] - 0.5) ^ 2 end
  local a, b = x[1] * math.pi / 2, x[2] * math.pi / 2
  return { (1 + g) * math.cos(a) * math.cos(b), (1 + g) * math.cos(a) * math.sin(b), (1 + g) * math.sin(a) }
end

local function add(name, space, least, value, true_value)
  functions[#functions + 1] = { name = name, space = space, least = least, value = value,
    true_value = true_value or value }
end

add("Branin", function(pioche) return { x = pioche.uniform(-5, 10), y = pioche.uniform(0, 15) } end,
  0.39788735772973816, function(p) return branin(p.x, p.y) end)
add("Hartmann-6", cube(6, 0, 1), -3.32236801141551, function(p) return hartmann(list(p, 6)) end)
add("Rosenbrock-10", cube(10, -5, 10), 0, function(p) return rosenbrock(list(p, 10)) end)
add("Levy-8", cube(8, -10, 10), 0, function(p) return levy(list(p, 8)) end)
add("Rastrigin-5", cube(5, -5.12, 5.12), 0, function(p) return rastrigin(list(p, 5), 5) end)
add("Ackley-10", cube(10, -32.768, 32.768), 0, function(p) return ackley(list(p, 10), 32) end)
add("mixed", function(pioche)
  return { lr = pioche.log_uniform(1e-5, 1e-1), decay = pioche.log_uniform(1e-6, 1e-1),
    depth = pioche.int(1, 24), width = pioche.log_int(16, 2048), act = { "relu", "gelu", "silu", "tanh" },
    norm = { true, false }, drop = pioche.uniform(0, 0.5), mix = pioche.uniform(0, 1),
    beta = pioche.uniform(0.8, 0.99), other = pioche.uniform(0, 1) }
end, nil, mixed)
add("conditional", function(pioche)
  return { scale = pioche.uniform(0, 1), kind = pioche.one_of {
    plain = { a = pioche.uniform(0, 1), b = pioche.uniform(0, 1) }, flat = { c = pioche.uniform(0, 1) },
    sharp = { a = pioche.uniform(0, 1), b = pioche.uniform(0, 1) } } }
end, 0, trap)
add("noisy", cube(4, -5, 10), 0, function(p, number)
  return rosenbrock(list(p, 4)) * (1 + 0.1 * noise(number)) + noise(number + 7)
end, function(p) return rosenbrock(list(p, 4)) end)

-- Within constraints: the least is `least` where all of them are met.
local function add_within(name, space, least, value, constraints, true_value)
  add(name, space, least, value, true_value)
  functions[#functions].constraints = constraints
end

-- Of two constraints one has several islands (Gramacy et al., Technometrics 58(1) 2016): the least is
-- on the border.
add_within("constrained", function(pioche) return { x = pioche.uniform(0, 1), y = pioche.uniform(0, 1) } end,
  0.599787, function(p) return p.x + p.y end, {
    function(p) return 1.5 - p.x - 2 * p.y - 0.5 * math.sin(2 * math.pi * (p.x ^ 2 - 2 * p.y)) end,
    function(p) return p.x ^ 2 + p.y ^ 2 - 1.5 end })

-- The first two of Gardner et al. (ICML 2014): of the second one a fiftieth of the space is inside.
local function square(pioche) return { x = pioche.uniform(0, 6), y = pioche.uniform(0, 6) } end
add_within("within waves", square, -2, function(p) return math.cos(2 * p.x) * math.cos(p.y) + math.sin(p.x) end,
  { function(p) return math.cos(p.x) * math.cos(p.y) - math.sin(p.x) * math.sin(p.y) - 0.5 end })
add_within("within isles", square, math.asin(0.95) - 1, function(p) return math.sin(p.x) + p.y end,
  { function(p) return math.sin(p.x) * math.sin(p.y) + 0.95 end })
add_within("within a plane", cube(6, 0, 1), -2.5951082937, function(p) return hartmann(list(p, 6)) end,
  { function(p)
    local sum = -1.5
    for _, x in ipairs(list(p, 6)) do sum = sum + x end
    return sum
  end })

-- Weights and activations have to fit into 8 GB.
local function memory(p)
  return p.depth * p.width ^ 2 / 40000 + p.batch * p.depth * p.width / 20000 - 8
end

-- Of several goals `most` is the volume between the best front and the reference: of ZDT1
-- 121 - 1/3, of ZDT2 121 - 2/3, and of the sphere of DTLZ2 8 - pi/6.
local function add_front(name, count, reference, most, values)
  functions[#functions + 1] = { name = name, space = cube(count, 0, 1), reference = reference, most = most,
    values = function(p) return values(list(p, count)) end,
    true_value = function(p) return values(list(p, count))[2] end }
end

add_front("ZDT1", 30, { 11, 11 }, 121 - 1 / 3, function(x) return zdt(x, math.sqrt) end)
add_front("ZDT2", 30, { 11, 11 }, 121 - 2 / 3, function(x) return zdt(x, function(y) return y ^ 2 end) end)
add_front("DTLZ2", 12, { 2, 2, 2 }, 8 - math.pi / 6, dtlz2)

-- By these no search was tuned, but for the first four, which were seen while `auto` learned to
-- leave a basin: what holds of those above is to hold of them.
add("Griewank-6", cube(6, -60, 60), 0, function(p) return griewank(list(p, 6)) end)
add("Styblinski-5", cube(5, -5, 5), -195.83082851885710, function(p) return styblinski_tang(list(p, 5)) end)
add("Michalewicz-5", cube(5, 0, math.pi), -4.687658179, function(p) return michalewicz(list(p, 5)) end)
add("Dixon-Price-8", cube(8, -10, 10), 0, function(p) return dixon_price(list(p, 8)) end)
add("sphere-10", cube(10, -5, 5), 0, function(p) return sphere(list(p, 10), 5) end)
add("ellipsoid-8", cube(8, -5, 5), 0, function(p) return ellipsoid(list(p, 8)) end)
add("Zakharov-6", cube(6, -5, 10), 0, function(p) return zakharov(list(p, 6)) end)
add("training", function(pioche)
  return { lr = pioche.log_uniform(1e-5, 1), decay = pioche.log_uniform(1e-5, 1),
    width = pioche.log_int(16, 512), depth = pioche.int(1, 8), batch = pioche.log_int(8, 512),
    drop = pioche.uniform(0, 0.5), warmup = pioche.uniform(0, 0.2), optimizer = { "adamw", "sgd" } }
end, 2.2717514421272202, function(p, number) return training(p) + 0.01 * noise(number) end, training)
add_within("within memory", functions[#functions].space, 2.5135651327658204, functions[#functions].value,
  { memory }, training)

return functions
