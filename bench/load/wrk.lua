-- Prints wrk's own counts as one line of JSON. Only `done` is defined: a `response` function would slow the generator.
done = function(summary, latency, requests)
  io.write(string.format(
    'WRK {"requests":%d,"bytes":%d,"durationUs":%d,"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d,"p50Us":%d,"p99Us":%d,"maxUs":%d}\n',
    summary.requests, summary.bytes, summary.duration, summary.errors.connect, summary.errors.read, summary.errors.write,
    summary.errors.status, summary.errors.timeout, latency:percentile(50), latency:percentile(99), latency.max))
end

-- Uploads: the body is made once.
local upload = os.getenv("WEFT_BENCH_UPLOAD")
if upload then
  wrk.method = "POST"
  wrk.body = string.rep("u", tonumber(upload))
end
