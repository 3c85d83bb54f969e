-- progress.lua: what `pioche run` says while it runs, on stderr: on a terminal
-- one line that is redrawn, else a plain line for each event.
local format = require "pioche.format"
local sys = require "pioche.core.sys"
local term = require "pioche.term"

local progress = {}
local methods = {}
methods.__index = methods

local redraw_ns = 200000000

-- total: runs of the whole plan; done: finished before. `with_times`: lines that
-- stay begin with the time, where they go to no terminal.
function progress.new(total, done, parallel, with_times)
  local cols = sys.term_size()
  return setmetatable({ total = total, done = done, failed = 0, parallel = parallel,
    running = {}, with_times = with_times, tty = sys.isatty(2) and sys.getenv("TERM") ~= "dumb", cols = cols,
    seconds = 0, timed = 0, drawn = false, drawn_ns = 0 }, methods)
end

local function clear(self)
  if self.drawn then sys.write(2, "\r\27[K") end
  self.drawn = false
end

-- A line that stays.
function methods:say(text, ...)
  clear(self)
  local time = self.with_times and not self.tty and sys.format_time(sys.now_ns()):sub(1, 19) .. "Z  " or ""
  sys.write(2, time .. term.clean_lines(select("#", ...) > 0 and text:format(...) or text) .. "\n")
end

local function add(self, job)
  if job.is_shown then return end
  job.is_shown = true
  self.running[#self.running + 1] = job
end

-- An attempt begins: it runs, or a scheduler's queue gets it, of which the next calls
-- tell. Where the queue gave it a place, `how` names that.
function methods:started(job, how)
  job.started_ns = sys.mono_ns()
  add(self, job)
  if not self.tty then
    local is_label = not how and job.label ~= ""
    self:say("%s %s%s%s%s", job.name, job.status == "queued" and "submitted" or "started",
      job.attempt > 1 and (" (attempt %d)"):format(job.attempt) or "",
      is_label and ": " .. job.label or "", how and ": " .. how or "")
  end
end

-- It is in a queue, for the reason job.where.
function methods:waits(job)
  if not self.tty then self:say("%s queued: %s", job.name, job.where) end
end

-- An attempt of an earlier session goes on.
function methods:adopted(job)
  job.started_ns = sys.mono_ns()
  add(self, job)
  self:say("%s is %s in Slurm already", job.name, job.status)
end

function methods:ended(job)
  for i, other in ipairs(job.is_shown and self.running or {}) do
    if other == job then
      table.remove(self.running, i)
      break
    end
  end
  job.is_shown = nil
  if job.started_ns and job.status == "finished" then
    self.seconds, self.timed = self.seconds + (sys.mono_ns() - job.started_ns) / 1e9, self.timed + 1
  end
end

local function mean(list)
  local sum = 0
  for _, value in ipairs(list) do sum = sum + value end
  return sum / #list
end

-- Seconds until everything is done; nil while nothing is known. From finished
-- runs, else from how far the running ones are.
local function eta(self)
  local now, estimates, left = sys.mono_ns(), {}, 0
  for _, job in ipairs(self.running) do
    local passed = (now - job.started_ns) / 1e9
    local fraction = job.steps and job.step and job.step > (job.first_step or 0)
      and (job.step - (job.first_step or 0)) / math.max(1, job.steps - (job.first_step or 0))
    if fraction and fraction > 0.02 then
      estimates[#estimates + 1] = passed / math.min(1, fraction)
    end
  end
  local each = self.timed > 0 and self.seconds / self.timed or #estimates > 0 and mean(estimates)
  if not each then return nil end
  for _, job in ipairs(self.running) do
    left = left + math.max(0, each - (now - job.started_ns) / 1e9)
  end
  local waiting = self.total - self.done - self.failed - #self.running
  left = left + math.max(0, waiting) * each
  return left / math.max(1, math.min(self.parallel, #self.running + waiting))
end

-- Redraw the line, at most five times a second.
function methods:draw()
  local now = sys.mono_ns()
  if not self.tty or now - self.drawn_ns < redraw_ns then return end
  self.drawn_ns = now
  local words = { ("%d/%d"):format(self.done, self.total) }
  if self.failed > 0 then words[1] = words[1] .. (" (%d failed)"):format(self.failed) end
  for _, job in ipairs(self.running) do
    local text = job.name
    if job.step then
      text = text .. (job.steps and (" %d/%d"):format(job.step, job.steps) or " step " .. job.step)
    end
    if job.where then text = text .. " queued: " .. job.where end
    if job.value then text = text .. (" %s %.4g"):format(job.goal_key, job.value) end
    words[#words + 1] = text
  end
  local seconds = eta(self)
  local tail = seconds and "ETA " .. format.duration(math.floor(seconds * 1e9)) or ""
  local line = table.concat(words, "  ")
  local room = self.cols - #tail - 3
  if #line > room then line = line:sub(1, math.max(10, room - 3)) .. "..." end
  sys.write(2, "\r\27[K" .. line .. (tail ~= "" and "  " .. tail or ""))
  self.drawn = true
end

function methods:finish()
  clear(self)
end

return progress
