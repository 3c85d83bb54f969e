-- The smallest useful recipe: a shell line as the program, three runs.
--
--   pioche plan recipes/hello.lua      what would run
--   pioche run recipes/hello.lua       run it; again, and there is nothing to do
--   pioche logs hello-1                what a run said
local pioche = require "pioche"

local greet = pioche.program {
  command = { "sh", "-c", 'echo "hello, $1, from run ${PIOCHE_RUN}"', "hello" },
  args = function(p) return { p.name } end,
}

return pioche.sweep {
  name = "hello",
  program = greet,
  space = { name = { "Ada", "Grace", "Emmy" } },
}
