-- A PyTorch program as any tutorial writes it: nothing in it knows who starts
-- it. It wants torch and scikit-learn: start pioche inside of your environment,
-- or name it in `setup`.
--
--   pioche run recipes/torch_ddp.lua
--   pioche run recipes/torch_ddp.lua launch.nodes=2 launch.ranks_per_node=8
--   pioche show torch-ddp/best --environment
local pioche = require "pioche"

local train = pioche.program {
  command = { "python3", "experiments/torch_ddp/train.py" },
  sources = { "experiments/torch_ddp" },
}

return pioche.sweep {
  name = "torch-ddp",
  program = train,
  space = { epochs = 20, batch = 32, width = 16, lr = { 1e-3, 3e-3 } },
  goal = pioche.maximize "test/accuracy",
  launch = { ranks_per_node = 2 },
}
