-- describe.lua: what a bundle is, for programs that know nothing of pioche: an
-- RO-Crate, and an in-toto Statement of what was made from what.
local json = require "pioche.core.json"
local runs = require "pioche.runs"

local describe = {}

local function decoded(text)
  local ok, value = pcall(json.decode, text or "")
  if not ok or value == nil then return json.null end
  return value
end

local function or_null(value)
  if value == nil then return json.null end
  return value
end

-- What made the files from what, with SLSA provenance, not signed: sign it beside
-- the bundle. Checkpoints are named by the digests of their manifests.
function describe.attestation(box, loaded, checkpoints)
  local subject, sources, seen = json.array {}, json.array {}, {}
  for i, entry in ipairs(box.entries) do
    subject[i] = { name = entry.path, digest = { sha256 = entry.sha256 } }
  end
  for _, run in ipairs(loaded) do
    if run.commit and not seen[run.commit] then
      seen[run.commit] = true
      sources[#sources + 1] = { uri = "git:commit", digest = { gitCommit = run.commit } }
    end
  end
  local made = json.array {}
  for i, run in ipairs(loaded) do
    local named = json.array {}
    for k, checkpoint in ipairs(checkpoints[run.id]) do
      named[k] = { step = checkpoint.step, digest = { sha256 = checkpoint.manifest_sha256 } }
    end
    made[i] = { run = run.name, ulid = run.ulid, params = run.params, seed = or_null(run.seed),
      program = decoded(run.program), launch = decoded(run.launch), commit = or_null(run.commit),
      checkpoints = named, started = or_null(runs.time(run.started_ns)),
      finished = or_null(runs.time(run.ended_ns)) }
  end
  box:json("attestation.intoto.json", {
    _type = "https://in-toto.io/Statement/v1", subject = subject,
    predicateType = "https://slsa.dev/provenance/v1",
    predicate = {
      buildDefinition = { buildType = "https://in-toto.io/attestation/pioche/run/1",
        externalParameters = { runs = made }, resolvedDependencies = sources },
      runDetails = { builder = { id = "pioche" }, metadata = { invocationId = loaded[1].ulid } },
    },
  })
end

local media = { json = "application/json", jsonl = "application/jsonl", csv = "text/csv",
  lua = "text/x-lua", txt = "text/plain", out = "text/plain", err = "text/plain",
  diff = "text/x-diff", png = "image/png" }

-- `title` and `text` are of the whole.
function describe.crate(box, title, text, loaded)
  local parts, graph = json.array {}, json.array {}
  for i, entry in ipairs(box.entries) do
    local id = entry.path:gsub("[^%w/._~!$&'()*+,;=:@-]", function(c)
      return ("%%%02X"):format(c:byte())
    end)
    parts[i] = { ["@id"] = id }
    graph[i + 2] = { ["@id"] = id, ["@type"] = "File", name = entry.path:match("[^/]+$"),
      contentSize = tostring(entry.bytes), sha256 = entry.sha256,
      encodingFormat = media[entry.path:match("%.(%w+)$") or ""] or "application/octet-stream" }
  end
  local newest = 0
  for _, run in ipairs(loaded) do newest = math.max(newest, run.ended_ns or run.created_ns) end
  graph[1] = { ["@id"] = "ro-crate-metadata.json", ["@type"] = "CreativeWork",
    about = { ["@id"] = "./" }, conformsTo = { ["@id"] = "https://w3id.org/ro/crate/1.1" } }
  graph[2] = { ["@id"] = "./", ["@type"] = "Dataset", name = title, identifier = loaded[1].ulid,
    description = text, datePublished = runs.time(newest), hasPart = parts,
    license = "No license was stated: ask whom you have this from." }
  box:json("ro-crate-metadata.json", { ["@context"] = "https://w3id.org/ro/crate/1.1/context",
    ["@graph"] = graph })
end

return describe
