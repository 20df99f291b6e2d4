-- What wrk sends: a browser's request, with a cookie, path and referer that differ from one to the next.
-- Arguments: how many different ones, method, path ("*": one of its own for each), body size, "close" or "keep".

local requests, turn = {}, 0

function init(args)
   local count, method, path, size, connection = tonumber(args[1]), args[2], args[3], tonumber(args[4]), args[5]
   local body = string.rep("x", size)
   math.randomseed(7)
   for i = 1, count do
      local mark = string.format("%08x%08x", math.random(0, 2 ^ 31 - 1), math.random(0, 2 ^ 31 - 1))
      local headers = {
         ["Host"] = "www.example.com",
         ["User-Agent"] = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
         ["Accept"] = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
         ["Accept-Language"] = "en-GB,en;q=0.7,de;q=0.3",
         ["Accept-Encoding"] = "gzip, deflate, br",
         ["Referer"] = "https://www.example.com/articles/" .. mark .. "?page=" .. i % 17,
         ["Cookie"] = "session=" .. mark .. mark .. "; theme=dark; seen=" .. i,
         ["Upgrade-Insecure-Requests"] = "1",
         ["Sec-Fetch-Mode"] = "navigate",
         ["Cache-Control"] = "max-age=0",
      }
      if connection == "close" then headers["Connection"] = "close" end
      if size > 0 then headers["Content-Type"] = "application/octet-stream" end
      local target = path == "*" and "/shop/item/" .. mark .. "?ref=" .. i or path
      requests[i] = wrk.format(method, target, headers, size > 0 and body or nil)
   end
end

function request()
   turn = turn % #requests + 1
   return requests[turn]
end

function done(summary, latency)
   local e = summary.errors
   print(string.format("RESULT %d %d %d %d %d %d %d %d %.1f %.1f",
      summary.requests, summary.duration, summary.bytes, e.connect, e.read, e.write, e.status, e.timeout,
      latency:percentile(50), latency:percentile(99)))
end
