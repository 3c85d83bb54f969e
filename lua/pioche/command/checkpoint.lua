-- checkpoint: what runs saved: which there are, what is in one, how two differ.
local errors = require "pioche.errors"
local care = require "pioche.checkpoint.care"
local diff = require "pioche.checkpoint.diff"
local encode = require "pioche.checkpoint.encode"
local list = require "pioche.checkpoint.list"

-- What follows the verb: how many arguments, in words, and which options it takes
-- beside those of every verb.
local parts = {
  ls = { run = list.ls, min = 0, words = "[RUN|EXPERIMENT|QUERY...]", options = { "wide" } },
  show = { run = list.show, min = 1, max = 1, words = "CHECKPOINT [--all]", options = { "all", "wide" } },
  cat = { run = require "pioche.checkpoint.cat", min = 2, max = 2,
    words = "CHECKPOINT TENSOR [--text|--npy] [--rank N]", options = { "text", "npy", "rank" } },
  diff = { run = diff.run, min = 2, max = 2, words = "A B [--by MEASURE] [--all]",
    options = { "by", "all", "wide" } },
  pin = { run = care.pin, min = 1, words = "CHECKPOINT... [--reason TEXT]", options = { "reason" } },
  unpin = { run = care.unpin, min = 1, words = "CHECKPOINT...", options = {} },
  verify = { run = care.verify, min = 1, words = "CHECKPOINT...", options = {} },
  encode = { run = encode.encode, min = 1,
    words = "CHECKPOINT... [--least RATIO] [--anchor CHECKPOINT|--alone]",
    options = { "least", "anchor", "alone" } },
  decode = { run = encode.decode, min = 1, words = "CHECKPOINT...", options = {} },
  export = { run = require "pioche.checkpoint.export", min = 1, max = 1,
    words = "CHECKPOINT --hf DIR [--role ROLE] [--shard-size SIZE]",
    options = { "hf", "role", "shard_size" } },
  import = { run = require "pioche.checkpoint.import", min = 1, max = 1,
    words = "DIR|FILE --run RUN --step N [--role ROLE]", options = { "run", "step", "role" } },
  prove = { run = require "pioche.checkpoint.prove", min = 1, max = 1,
    words = "CHECKPOINT|RUN [--steps N] [--metric KEY]", options = { "steps", "metric", "timeout" } },
}
local names = { "ls", "show", "cat", "diff", "pin", "unpin", "verify", "encode", "decode", "export", "import",
  "prove" }

local globals = { store = true, json = true, csv = true, no_color = true }

local function check_options(name, part, options)
  local known = {}
  for _, option in ipairs(part.options) do known[option] = true end
  for option in pairs(options) do
    if not known[option] and not globals[option] then
      errors.raise("usage", "checkpoint %s: there is no --%s here; usage: pioche checkpoint %s %s", name,
        option:gsub("_", "-"), name, part.words)
    end
  end
end

local function run(ctx)
  local name = ctx.args[1]
  local part = parts[name]
  if not part then
    errors.raise("usage", "checkpoint: expected %s, got '%s'%s", table.concat(names, ", "), name,
      errors.suggestion(name, names))
  end
  local words = table.move(ctx.args, 2, #ctx.args, 1, {})
  if #words < part.min or #words > (part.max or #words) then
    errors.raise("usage", "checkpoint %s: %s; usage: pioche checkpoint %s %s", name,
      #words < part.min and "something is missing"
        or ("unexpected argument '%s'"):format(words[part.max + 1]), name, part.words)
  end
  check_options(name, part, ctx.options)
  return part.run(ctx, words)
end

local usage = {}
for i, name in ipairs(names) do usage[i] = ("checkpoint %s %s"):format(name, parts[name].words) end

return {
  summary = "what runs saved: list, look into, compare",
  usage = table.concat(usage, "\n"),
  help = [[
CHECKPOINT is RUN@STEP, RUN@last, RUN@best (by the experiment's goal), or the
beginning of its digest: gpt-17@400, gpt/best@last, 3f9c2a.

ls lists them, with the goal's value at each. Their state: written, as it was
hashed when it was saved; reread, since it was read again from the disk and found
the same; damaged.

show tells what is in one: roles, files, tensors.

cat prints a tensor of it: its bytes, little-endian, as the file has them; with
--text as numbers, a line for each row; with --npy as a file that numpy.load
takes (bf16 and fp8 as float32, which holds them exactly). TENSOR is NAME or
ROLE/NAME; without a role it is the model's.

diff compares tensor by tensor: added, removed, changed; of each the largest
difference and where it is, the root of the mean square of the difference, its
norm relative to the first's, the cosine between both, and how many elements
changed. Files that both have are not read. A tensor that became another type is
compared by its values.

pin keeps a checkpoint whatever the recipe's `keep` and `pioche gc` say, until it is
unpinned. verify reads all files of one again from the disk and compares them with
their digests; the exit status is 1 where one is damaged.

encode keeps the files of a checkpoint smaller: what differs from those of an older
checkpoint of the run, its anchor, byte by byte of the elements, compressed; where a
sample says that this does not make a file 1.2 times smaller (or --least RATIO), it
stays as it is. Nothing else changes: files have the same digests, every command reads
them, and a run that goes on from one has it decoded first. The anchor is the nearest
older checkpoint, or one of those that --anchor names; it is kept while something
hangs on it. --alone: without any. The larger file goes when the smaller one was read
again from the disk and decoded to the same bytes. decode makes files of the bytes
again. A recipe's `keep.encode` has it done to all that is kept beside the newest.

export --hf makes a folder that Hugging Face's loaders read, and the safetensors
package alone: whole tensors, whatever parts of them the ranks saved, in
model.safetensors or in several files with their index. The folder appears whole or
not at all. What a model's library wants beside the weights, as config.json, is its
program's to write.

import makes a checkpoint of a run out of safetensors files that others wrote: of a
folder with Hugging Face's index what that names, else all of them. What PyTorch
saved (.pt, .pth, .bin, .ckpt, a folder of torch.distributed.checkpoint) is read by
torch, with weights_only, where `python3` or what PIOCHE_PYTHON names has it; of a
distributed checkpoint torch loads a pickle, so take that only from whom you trust.
Runs grow from it as from any other (`from` in a recipe).

prove starts the run's program from a checkpoint, in its own code, with its own
inputs and as many ranks, in a place apart; when it has logged the next step anew,
that is compared with what the run logged, bit for bit: the losses and the goal, or
what --metric names. Of a RUN it takes the newest checkpoint behind which something
was logged. What comes of it is kept: same, differs, or failed.

JSON: of ls an array of {id, name, run, ulid, step, attempt, bytes, files, writers,
fsyncs, stall_ms, total_ms, hash_cpu_ms, sync, asynchronous, created, encoding,
stored_bytes, ratio, state, damage, verified, proof, value, marks[]} (null: not known, of
what older clients saved); of show such an object with {commit, from, file_list[],
tensors[]}; of cat {name, role, rank, dtype,
shape[], values[]}; of diff {a, b, same, changed, added, removed, reshaped,
bytes_read, tensors[{kind, rank, role, name, a, b, elements, changed, unfinite,
max_abs, max_index, rms, relative, cosine}]}; of pin, unpin and verify arrays of
{id, name, done}, and of encode and decode with {files, bytes, stored_bytes}; of
export {path, checkpoint, name, files[], tensors, bytes};
of import what ls says of it; of prove {id, name, result, points, first_step,
last_step, message}.]],
  options = {
    { name = "text", help = "of cat: numbers, a line for each row" },
    { name = "npy", help = "of cat: a file of NumPy's format" },
    { name = "rank", arg = "N", type = "integer", min = 0, help = "of cat: as this rank saved it" },
    { name = "by", arg = "MEASURE", choices = diff.measures,
      help = "of diff: order by max, rms, relative, cosine or changed, most different first" },
    { name = "all", short = "a", help = "of show: all tensors; of diff: those that are the same, too" },
    { name = "steps", arg = "N", type = "integer", min = 1, help = "of prove: so many steps, not only one" },
    { name = "metric", short = "m", arg = "KEY", multi = true,
      help = "of prove: this decides, not the losses and the goal; repeatable" },
    { name = "timeout", arg = "S", type = "integer", min = 1,
      help = "of prove: give up when it takes longer than so many seconds (1800)" },
    { name = "least", arg = "RATIO", type = "number", min = 1,
      help = "of encode: so many times smaller a file has to become (1.2)" },
    { name = "anchor", arg = "CHECKPOINT", multi = true,
      help = "of encode: one that files may be decoded with; repeatable" },
    { name = "alone", help = "of encode: with no anchor but those that are named" },
    { name = "reason", arg = "TEXT", help = "of pin: why, which show tells" },
    { name = "hf", arg = "DIR", help = "of export: the folder, which must not exist" },
    { name = "role", arg = "ROLE", help = "of export and import: other tensors than the model's" },
    { name = "run", arg = "RUN", help = "of import: whose checkpoint it becomes" },
    { name = "step", arg = "N", type = "integer", help = "of import: at which step" },
    { name = "shard-size", arg = "SIZE", help = "of export: of each file at most, as 4GiB (which it is)" },
    { name = "wide", short = "w", help = "every column, whatever the terminal's width" },
  },
  examples = "pioche checkpoint ls gpt\npioche checkpoint show gpt/best@last\n"
    .. "pioche checkpoint cat gpt-17@400 wte --npy > wte.npy\n"
    .. "pioche checkpoint diff gpt-17@100 gpt-17@400 --by relative\n"
    .. "pioche checkpoint pin gpt-17@400 --reason 'table 2 of the paper'\n"
    .. "pioche checkpoint export gpt/best@best --hf gpt-hf\n"
    .. "pioche checkpoint prove gpt/best\npioche checkpoint import llama/ --run base-1 --step 0",
  args = { 1, nil, what = "what to do: " .. table.concat(names, ", ") },
  names = names,
  run = run,
}
