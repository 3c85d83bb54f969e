-- Numbers, times and sizes as people read them; CSV as programs read it.
local tap = dofile((arg[0]:match("^.*/") or "") .. "tap.lua")
local csv = require "pioche.csv"
local format = require "pioche.format"
local stats = require "pioche.stats"
local sys = require "pioche.core.sys"
local term = require "pioche.term"
local test, equal = tap.test, tap.equal
local nan, inf = 0 / 0, math.huge

test("exact numbers read back as the same value", function()
  for _, value in ipairs { 0.1, 1 / 3, 3e-4, 1e300, 5e-324, 123456.789, 2.0 ^ 53 + 2, -0.5, 1e21 } do
    equal(tonumber(format.exact(value)) + 0.0, value)
  end
  equal(format.exact(0.1), "0.1")
  equal(format.exact(100000.0), "100000")
  equal(format.exact(9007199254740993), "9007199254740993")
  equal(format.exact(nan), "NaN")
  equal(format.exact(-inf), "-Infinity")
end)

test("a column has the same number of decimals", function()
  equal(format.column({ 2.34567, 0.5, 12.0 }, 3, 4), { "2.35", "0.50", "12.00" })
  equal(format.column({ 2.34567, nil, 3.0 }, 3), { "2.3457", "", "3.0000" })
end)

test("small values keep three digits beside larger ones", function()
  equal(format.column({ 0.0195623, 0.000162612 }, 2, 4), { "0.019562", "0.000163" })
end)

test("integers stay integers in a column", function()
  equal(format.column({ 32, 64, 128 }, 3), { "32", "64", "128" })
  equal(format.column({ 2, 0.845595 }, 2, 4), { "2", "0.846" })
end)

test("different values do not look the same", function()
  local texts = format.column({ 2.000251, 2.000254, 2.1 }, 3)
  assert(texts[1] ~= texts[2], texts[1])
end)

test("far magnitudes go to exponents, all of them", function()
  equal(format.column({ 1e-12, -2.5e100, 3 }, 3, 3), { "1.00e-12", "-2.50e100", "3" })
  equal(format.column({ 0.0, -0.0 }, 2), { "0", "-0" })
  local texts = format.column({ 1e-5, 3.0, 2e4 }, 3, 3)
  for i, text in ipairs(texts) do assert(text:find("e"), i .. ": " .. text) end
end)

test("values that are not finite are named, in any column", function()
  equal(format.column({ nan, inf, -inf, 1.5 }, 4, 2), { "NaN", "Inf", "-Inf", "1.5" })
end)

test("deviations have the precision of their means", function()
  local means, stds = format.column({ 2.00109, 2.1 }, 2, 5, { 0.00138, nil })
  equal(means, { "2.0011", "2.1000" })
  equal(stds, { "0.0014", "" })
end)

test("durations, ages, bytes, counts", function()
  equal(format.duration(850000000), "850ms")
  equal(format.duration(12300000000), "12.3s")
  equal(format.duration(59990000000), "1m00s")
  equal(format.duration(245 * 1000000000), "4m05s")
  equal(format.duration(7380 * 1000000000), "2h03m")
  equal(format.duration(273600 * 1000000000), "3d04h")
  equal(format.age(500000000), "now")
  equal(format.age(300 * 1000000000), "5m")
  equal(format.bytes(999), "999 B")
  equal(format.bytes(1234567), "1.2 MB")
  equal(format.bytes(999999), "1.0 MB")
  equal(format.count(31102), "31,102")
  equal(format.count(-1234567), "-1,234,567")
  equal(format.count(100), "100")
  equal(format.count(math.mininteger), "-9,223,372,036,854,775,808")
end)

test("a sparkline spans its blocks and leaves gaps", function()
  equal(format.sparkline { 0, nan, 7 }, "▁ █")
  equal(format.sparkline { 3, 3 }, "▁▁")
  equal(format.sparkline {}, "")
end)

test("CSV quotes what must be quoted and nothing else", function()
  equal(csv.line { "a", 1, 0.5, true }, "a,1,0.5,true\r\n")
  equal(csv.line { 'say "x"', "a,b", "two\nlines", " lead" },
    '"say ""x""","a,b","two\nlines"," lead"\r\n')
  equal(csv.line({ nil, "x", nil }, 3), ",x,\r\n")
  equal(csv.line { nan, inf }, "NaN,Infinity\r\n")
end)

test("text is shown safely", function()
  equal(term.clean("a\nb\tc\r"), "a\\nb\\tc\\r")
  equal(term.clean("\27[31mred"), "\\x1b[31mred")
  equal(term.clean("ok\xff\xfe!"), "ok\\xff\\xfe!")
  equal(term.clean("\u{202E}evil"), "\\u202eevil")
  equal(term.clean("\u{9b}31m"), "\\u009b31m")
  equal(term.clean("naïve 日本語 🙂"), "naïve 日本語 🙂")
  equal(term.utf8("a\xffb"), "a\u{FFFD}b")
end)

test("widths count columns, not bytes or characters", function()
  equal(term.width("abc"), 3)
  equal(term.width("日本語"), 6)
  equal(term.width("e\u{301}"), 1)
  equal(term.width("🙂"), 2)
  equal(term.width("👩\u{200D}💻"), 2)
  equal(term.width("ü"), 1)
end)

test("cutting keeps the width and says so", function()
  equal(term.cut("abcdef", 4), "abc…")
  equal(term.cut("日本語", 4), "日…")
  equal(term.cut("abc", 3), "abc")
  assert(term.width(term.cut("日本語日本語", 5)) <= 5)
end)

test("mean and deviation", function()
  equal(stats.summary {}, { n = 0 })
  equal(stats.summary { 3 }, { n = 1, mean = 3 })
  local s = stats.summary { 2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0 }
  equal(s.mean, 5.0)
  assert(math.abs(s.std - math.sqrt(32 / 7)) < 1e-12)
end)

test("a lead is sure only outside the seeds' noise", function()
  local _, half = stats.welch(stats.summary { 1.0, 1.1, 0.9 }, stats.summary { 1.05, 1.15, 0.95 })
  assert(half > 0.05, "within the noise")
  local difference, small = stats.welch(stats.summary { 1.0, 1.01, 0.99 },
    stats.summary { 2.0, 2.01, 1.99 })
  assert(difference > small and math.abs(difference - 1) < 1e-9)
  -- Equal n and variance: Welch's df is 2 (n - 1) = 4, t is 2.776.
  assert(math.abs(small - 2.776 * math.sqrt(2 * 0.01 ^ 2 / 3)) < 1e-4)
end)

test("progress is how much, how fast, and how long still; of what was there before no word", function()
  local now, written = 1, {}
  local isatty, mono_ns, write, term_size = sys.isatty, sys.mono_ns, sys.write, sys.term_size
  sys.isatty, sys.mono_ns = function() return true end, function() return now end
  sys.write = function(_, text) written[#written + 1] = text end
  sys.term_size = function() return 100 end
  local ok, why = pcall(function()
    local progress = term.progress("exporting x.tar", format.bytes)
    progress(1000000000, 5000000000)
    now = now + 900000000
    progress(1200000000, 5000000000)
    equal(#written, 0)
    now = now + 1100000000
    progress(2000000000, 5000000000)
    equal(written[1], "\r\27[Kexporting x.tar 2.0 GB of 5.0 GB  40 %  500 MB/s  0:06 left")
    now = now + 50000000
    progress(2100000000, 5000000000)
    equal(#written, 1)
    progress()
    equal(written[2], "\r\27[K")
  end)
  sys.isatty, sys.mono_ns, sys.write, sys.term_size = isatty, mono_ns, write, term_size
  if not ok then error(why, 0) end
end)

tap.done()
