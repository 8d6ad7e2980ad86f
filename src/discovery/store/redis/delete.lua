-- Forgets a session, and tells all replicas if it was there.
-- ARGV[1]: the command that publishes. ARGV[2]: the message. ARGV[3]: the code.
-- Returns 'done'.
if forget(ARGV[3]) then
  redis.call(ARGV[1], KEYS[2], ARGV[2])
end
return 'done'
