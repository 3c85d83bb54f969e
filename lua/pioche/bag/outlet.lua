-- outlet.lua: where a bundle goes: a file, compressed or not, encrypted or not,
-- with its digest and a signature beside it; or the standard output.
local age = require "pioche.age"
local sys = require "pioche.core.sys"
local errors = require "pioche.errors"

local outlet = {}
local check = errors.check

local namespace = "file"   -- of signatures: what ssh-keygen's manual proposes

local function output_path(options, name, way)
  local own = name .. ".tar" .. (options.zstd and ".zst" or "") .. (way and ".age" or "")
  local path = options.output or own
  if sys.type(path) == "dir" then path = path:gsub("/+$", "") .. "/" .. own end
  if sys.type(path) and not options.force then
    errors.raise("exists", "%s: exists already; --force replaces it", path)
  end
  local folder = path:match("^(.*)/[^/]*$")
  if folder and folder ~= "" and sys.type(folder) ~= "dir" then
    errors.raise("not_found", "%s: there is no folder %s", path, folder)
  end
  return path
end

local function check_key(path)
  if sys.type(path) ~= "file" then
    errors.raise("not_found", "--sign %s: there is no such file; expected a private key of ssh-keygen, or"
      .. " a public one whose other half an agent has", path)
  end
end

-- Where a bundle of this name goes: { path (nil: standard output), zstd, encrypt (by
-- age.choose), sign }.
-- What cannot be is told before anything is written.
function outlet.choose(options, name)
  if options.to then
    for _, other in ipairs { "output", "encrypt", "passphrase", "passphrase_file", "sign" } do
      if options[other] then
        errors.raise("usage", "--to - and --%s exclude each other", (other:gsub("_", "-")))
      end
    end
    if sys.isatty(1) then
      errors.raise("usage", "--to -: the standard output is a terminal, expected a pipe or a file")
    end
    return { zstd = options.zstd }
  end
  if options.sign then check_key(options.sign) end
  local way = age.choose(options)
  return { path = output_path(options, name, way), zstd = options.zstd, encrypt = way, sign = options.sign }
end

-- `path` as an argument that no program takes for an option.
local function argument(path)
  return path:find("^%-") and "./" .. path or path
end

local function encrypt(way, bundle, progress)
  local part = way.path .. ".part"
  local pipe = age.encrypter(way.encrypt, part)
  local written, why, word = bundle:write { fd = pipe:fd(), progress = progress }
  local status = pipe:finish()
  if not written or status ~= 0 then
    os.remove(part)
    pipe:close()
    if status ~= 0 then
      errors.raise("invalid", "%s: age ended with exit status %d", way.encrypt.recipient
        and "--encrypt " .. way.encrypt.recipient or "--passphrase", status)
    end
    errors.raise(word, "%s", why)
  end
  check(pipe:publish(part, way.path))
  pipe:close()
  local sha256, bytes = check(sys.sha256_file(way.path))
  return { sha256 = sha256, bytes = bytes }
end

local function ssh_keygen(words, input, what)
  local done, message, code = sys.run { argv = { "ssh-keygen", "-Y", table.unpack(words) }, input = input }
  if not done then
    if code == "not_found" then
      errors.raise("not_found", "%s needs the program ssh-keygen, which is not here: install it"
        .. " (Debian: apt-get install openssh-client)", what)
    end
    errors.raise(code, "%s", message)
  end
  return done.status == 0, (done.stderr .. done.stdout):match("[^\r\n]+") or "no reason given", done.stdout
end

local function sign(way)
  os.remove(way.path .. ".sig")
  local ok, why = ssh_keygen({ "sign", "-f", way.sign, "-n", namespace, argument(way.path) }, "", "--sign")
  if not ok then
    errors.raise("invalid", "%s is written, but not signed: ssh-keygen: %s", way.path, why)
  end
end

-- Write a bundle there: { sha256, bytes, left, resumed } of what there is in the end.
function outlet.write(way, bundle, progress)
  local written
  if way.encrypt then
    written = encrypt(way, bundle, progress)
  else
    written = check(bundle:write { fd = not way.path and 1 or nil, progress = progress })
  end
  if way.path and (way.zstd or way.encrypt) then
    check(sys.write_file(way.path .. ".sha256", written.sha256 .. "  " .. way.path:match("[^/]*$") .. "\n"))
  end
  if way.sign then sign(way) end
  return written
end

-- How a stranger checks what was exported.
function outlet.instructions(options, done)
  local path, lines = done.path, {}
  local by_passphrase = options.passphrase or options.passphrase_file
  if options.zstd or options.encrypt or by_passphrase then
    local folder, name = path:match("^(.*)/([^/]*)$")
    lines[1] = folder and ("cd %s && sha256sum -c %s.sha256"):format(folder, name)
      or ("sha256sum -c %s.sha256"):format(path)
    path = name or path
  end
  if options.encrypt or by_passphrase then
    lines[#lines + 1] = ("age -d%s %s | tar x%s && cd %s"):format(by_passphrase and "" or " -i KEY", path,
      options.zstd and " --zstd" or "", done.id)
  else
    lines[#lines + 1] = ("tar xf %s && cd %s"):format(path, done.id)
  end
  lines[#lines + 1] = "sha256sum -c tagmanifest-sha256.txt manifest-sha256.txt"
  return "  " .. table.concat(lines, "\n  ") .. "\n"
end

-- Who signed the file at `path`, of those in the file of allowed signers; nil and why
-- it is nobody's.
function outlet.signer(path, signers)
  local signature = path .. ".sig"
  if sys.type(signers) ~= "file" then
    errors.raise("not_found", "--signers %s: no such file", signers)
  end
  if sys.type(signature) ~= "file" then return nil, "there is no signature " .. signature end
  local found, why, names = ssh_keygen({ "find-principals", "-s", argument(signature), "-f", signers }, "",
    "--signers")
  local who = found and names:match("[^\r\n]+")
  if not who then return nil, "its signature is by nobody in " .. signers .. ": " .. why end
  local done = check(sys.run { argv = { "sh", "-c", 'exec ssh-keygen -Y verify -f "$1" -I "$2" -n "$3"'
    .. ' -s "$4" < "$5"', "sh", signers, who, namespace, signature, path } })
  if done.status ~= 0 then
    return nil, "its signature is not of these bytes: " .. ((done.stderr .. done.stdout):match("[^\r\n]+")
      or "no reason given")
  end
  return who
end

return outlet
