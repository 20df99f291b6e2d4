-- What wrk sends: a browser's request, with a cookie, path and referer that differ from one to the next.
-- Arguments: how many different ones, method, path ("*": one of its own for each), body size, "close" or "keep".

local requests, turn = {}, 0

function init(args)
   local count, method, path, size, connection = tonumber(args[1]), args[2], args[3], tonumber(args[4]), args[5]
   local body = string.rep("x", size)
   math.randomseed(7)
   for i = 1, count do
      local mark = string.format("%08x%08x", math.random(0, 2 ^ 31 - 1), math.random(0, 2 ^ 31 - 1))
      local fields = {
         "Host: www.example.com",
         "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
         "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
         "Accept-Language: en-GB,en;q=0.7,de;q=0.3",
         "Accept-Encoding: gzip, deflate, br",
         "Referer: https://www.example.com/articles/" .. mark .. "?page=" .. i % 17,
         "Cookie: session=" .. mark .. mark .. "; theme=dark; seen=" .. i,
         "Upgrade-Insecure-Requests: 1",
         "Sec-Fetch-Mode: navigate",
         "Cache-Control: max-age=0",
      }
      if connection == "close" then table.insert(fields, 6, "Connection: close") end
      if size > 0 then
         table.insert(fields, 6, "Content-Type: application/octet-stream")
         table.insert(fields, 7, "Content-Length: " .. size)
      end
      local target = path == "*" and "/shop/item/" .. mark .. "?ref=" .. i or path
      -- Not by wrk.format, which mixes the fields anew in each run: a browser has an order, and Host comes first.
      requests[i] = method .. " " .. target .. " HTTP/1.1\r\n" .. table.concat(fields, "\r\n") .. "\r\n\r\n" .. body
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
