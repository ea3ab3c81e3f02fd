# Counts the words of the payload's text.
require "json"

CONTROL = IO.for_fd(Integer(ENV.fetch("ZIZQ_CTL_FD")), "w", autoclose: false)
CONTROL.sync = true

def say(line) = CONTROL.puts(JSON.generate(line))

text = JSON.parse($stdin.read).fetch("text")
if text.empty?
  warn "the text is empty"
  exit 65 # EX_DATAERR: trying again is of no use
end

words = text.split.size
say(progress: 1, message: "counted")
say(result: { words: words })
puts "#{words} words"
