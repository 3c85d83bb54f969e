-- members.lua: the runs of a population (population.lua) in a session: where each grows
-- from, and which checkpoints nobody needs any more.
local errors = require "pioche.errors"
local plan = require "pioche.plan"
local retention = require "pioche.retention"

local members = {}
local check = errors.check

local run_of = "SELECT r.id AS id, e.name || '-' || r.number AS name, r.from_checkpoint AS manifest"
  .. " FROM proposal_run p JOIN run r ON r.id = p.run_id JOIN experiment e ON e.id = r.experiment_id"
  .. " WHERE p.sweep_id = ? AND p.number = ?"

-- The checkpoint from which the run of a proposal grows, { manifest, id }: nil where it starts
-- as the sweep does. It is the newest of the parent's run as that was proposed.
function members.origin(store, sweep_id, number, lineage)
  if not lineage.parent then return nil end
  local known = check(store:one(run_of, sweep_id, number))
  if known then return { manifest = known.manifest, id = check(store:checkpoint_find(known.manifest)) } end
  local parent = check(store:one(run_of, sweep_id, lineage.parent))
  local id = check(store:checkpoint_newest(parent.id))
  if not id then
    errors.raise("invalid", "search: %s has saved no checkpoint: a member of a population goes on from the one"
      .. " that its program saves before it ends", parent.name)
  end
  return { id = id, manifest = check(store:one("SELECT manifest_sha256 AS m FROM checkpoint WHERE id = ?", id)).m }
end

-- Is a new proposal's run one that another sweep has finished, and of whose checkpoints none
-- is left? Then nobody can go on from it, and it is run once more.
function members.is_spent(store, sweep_id, number, identity)
  if check(store:one(run_of, sweep_id, number)) then return false end
  local known = plan.find(store, identity)
  return known ~= nil and known.status == "finished" and not check(store:checkpoint_newest(known.id))
end

-- Drop the checkpoints of runs whose members have come further, as the retention rule drops
-- older ones: after the newer one was read again. What an open run starts from waits.
function members.collect(progress)
  local session, store = progress.session, progress.session.store
  if not progress.has_members or progress.broken then return end
  for number, newer in next, progress.history:current():outdated() do
    local job, by = progress.jobs_of[number], progress.jobs_of[newer]
    if job and by and not progress.collected[number] then
      job[1].successor = check(store:checkpoint_newest(by[1].id)) or nil
      if job[1].successor then retention.apply(session, job[1], true) end
      progress.collected[number] = not check(store:checkpoint_newest(job[1].id))
    end
  end
end

return members
