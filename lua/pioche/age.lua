-- age.lua: bundles that are encrypted, by the program age: for keys, or by a passphrase.
--
-- A passphrase is asked for by age itself, on the terminal; or it is the first line of a
-- file or in PIOCHE_PASSPHRASE, and is typed for age on a terminal of its own. It is on no
-- command line and in no store.
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"
local term = require "pioche.term"

local age = {}

local variable = "PIOCHE_PASSPHRASE"
local magics = { "age-encryption.org/v1\n", "-----BEGIN AGE ENCRYPTED FILE-----" }

-- `path` as an argument that no program takes for an option.
local function argument(path)
  return path:find("^%-") and "./" .. path or path
end

-- The options of those who read what is encrypted, for cli.lua.
age.options = {
  { name = "identity", arg = "FILE", help = "of a bundle that is encrypted for a key: the file of the key" },
  { name = "passphrase-file", arg = "FILE", help = "of one that is encrypted by a passphrase: the first line"
    .. " of this file (else PIOCHE_PASSPHRASE, else it is asked for)" },
}

-- What is to be typed; nil: age asks.
local function passphrase(options)
  local text, where = sys.getenv(variable), variable
  if options.passphrase_file then
    where = "--passphrase-file " .. options.passphrase_file
    text = errors.check(sys.read_file(options.passphrase_file)):match("^[^\r\n]*")
  end
  if text == "" then errors.raise("invalid", "%s: a passphrase is expected, and it is empty", where) end
  if text and (text:find("%c") or #text > 1000) then
    errors.raise("invalid", "%s: a passphrase of at most 1000 bytes without control characters is expected",
      where)
  end
  return text
end

-- With what to encrypt, by the options of `pioche export`: { recipient = } or { typed = text
-- or nil: asked }; nil: with nothing.
function age.choose(options)
  local by_passphrase = options.passphrase or options.passphrase_file
  if options.encrypt and by_passphrase then
    errors.raise("usage", "--encrypt and --%s exclude each other: a bundle is encrypted for keys, or by a"
      .. " passphrase", options.passphrase and "passphrase" or "passphrase-file")
  end
  if options.encrypt then return { recipient = options.encrypt } end
  if not by_passphrase then return nil end
  local way = { typed = passphrase(options) }
  if not way.typed and not sys.isatty(0) then
    errors.raise("usage", "--passphrase: there is no terminal to ask on; --passphrase-file FILE and %s say it",
      variable)
  end
  return way
end

local function cannot_start(message, code)
  if code == "not_found" then
    errors.raise("not_found", "what is encrypted needs the program age, which is not here: install it"
      .. " (Debian: apt-get install age)")
  end
  errors.raise(code, "%s", message)
end

-- The pipe that encrypts into the file `part`.
function age.encrypter(way, part)
  local argv = { "age", "-p" }
  if way.recipient then
    argv = { "age", sys.type(way.recipient) == "file" and "-R" or "-r", argument(way.recipient) }
  end
  local pipe, message, code = sys.pipe_into { output = part, argv = argv, asks = not way.recipient,
    typed = way.typed and way.typed .. "\n" .. way.typed }
  if pipe then return pipe end
  if code ~= "busy" then os.remove(part) end
  cannot_start(message, code)
end

function age.is_encrypted(path)
  local file <close> = io.open(path, "rb")
  local head = file and file:read(40) or ""
  for _, magic in ipairs(magics) do
    if head:sub(1, #magic) == magic then return true, head:find("\n-> scrypt ", 1, true) ~= nil end
  end
  return false
end

-- Give visit(path) a pipe's path from which the file at `path` is read in the clear, and
-- return what it returns; with a failure of visit, or of age. What is said of the pipe is
-- said of the file by told(text).
function age.open(path, options)
  local _, scrypt = age.is_encrypted(path)
  local argv = { "age", "-d" }
  if options.identity then
    if sys.type(options.identity) ~= "file" then
      errors.raise("not_found", "--identity %s: there is no such file", options.identity)
    end
    table.move({ "-i", argument(options.identity) }, 1, 2, #argv + 1, argv)
  elseif not scrypt and not options.passphrase_file then
    errors.raise("usage", "%s is encrypted for a key: --identity FILE says which", path)
  end
  local typed = not options.identity and passphrase(options) or nil
  if not options.identity and not typed and not sys.isatty(0) then
    errors.raise("usage", "%s is encrypted by a passphrase, and there is no terminal to ask on:"
      .. " --passphrase-file FILE and %s say it", path, variable)
  end
  argv[#argv + 1] = argument(path)
  local pipe, message, code = sys.pipe_from { argv = argv, asks = not options.identity, typed = typed }
  if not pipe then cannot_start(message, code) end
  local from = "/dev/fd/" .. pipe:fd()
  return {
    path = from,
    -- What was said of the pipe, as said of the file.
    told = function(text) return (text:gsub(from:gsub("%p", "%%%0"), (path:gsub("%%", "%%%%")))) end,
    -- The end: nil, or how age failed. What it has not given yet is given up.
    close = function()
      local status = pipe:finish()
      pipe:close()
      if status ~= 0 then
        return ("%s: age ended with exit status %d: it is not the right %s, or the file is damaged"):format(
          term.clean(path), status, options.identity and "key" or "passphrase")
      end
      return nil
    end,
  }
end

return age
