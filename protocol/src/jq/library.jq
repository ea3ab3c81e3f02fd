# What jq defines in its own language, after its manual. Names that begin with `_` are known here alone.
def error($message): $message | error;
def map(f): [.[] | f];
def select(f): if f then . else empty end;
def recurse(f): def r: ., (f | r); r;
def recurse(f; cond): def r: ., (f | select(cond) | r); r;
def recurse: recurse(.[]?);
def values: select(. != null);
def nulls: select(. == null);
def isfinite: type == "number" and (isinfinite | not);
def arrays: select(type == "array");
def objects: select(type == "object");
def iterables: select(type | . == "array" or . == "object");
def booleans: select(type == "boolean");
def numbers: select(type == "number");
def normals: select(isnormal);
def finites: select(isfinite);
def strings: select(type == "string");
def scalars: select(type | . != "array" and . != "object");
def sort_by(f): _sort_by(map([f]));
def group_by(f): _group_by(map([f]));
def unique: group_by(.) | map(.[0]);
def unique_by(f): group_by(f) | map(.[0]);
def max_by(f): _max_by(map([f]));
def min_by(f): _min_by(map([f]));
def add: reduce .[] as $x (null; . + $x);
def abs: if . < 0 then - . else . end;
def del(f): delpaths([path(f)]);
def map_values(f): .[] |= f;
def paths: path(recurse) | select(length > 0);
def paths(f): path(recurse | select(f)) | select(length > 0);
def pick(f): . as $whole | reduce path(f) as $path (null; setpath($path; $whole | getpath($path)));
def to_entries: [keys_unsorted[] as $key | {key: $key, value: .[$key]}];
def from_entries:
  map({(.key // .Key // .name // .Name): (if has("value") then .value else .Value end)}) | add | . //= {};
def with_entries(f): to_entries | map(f) | from_entries;
def reverse: [.[length - 1 - range(0; length)]];
def indices($i):
  if type == "array" and ($i | type) == "array" then .[$i]
  elif type == "array" then .[[$i]]
  elif type == "string" and ($i | type) == "string" then _strindices($i)
  else .[$i] end;
def index($i): indices($i) | .[0];
def rindex($i): indices($i) | .[-1:][0];
def join($separator):
  reduce .[] as $item (null;
    (if . == null then "" else . + $separator end)
    + ($item | if type == "boolean" or type == "number" then tostring else . // "" end)) // "";
def _flatten($depth):
  reduce .[] as $item ([];
    if $item | type == "array" and $depth != 0 then . + ($item | _flatten($depth - 1)) else . + [$item] end);
def flatten($depth): if $depth < 0 then error("flatten depth must not be negative") else _flatten($depth) end;
def flatten: _flatten(-1);
def while(cond; update): def w: if cond then ., (update | w) else empty end; w;
def until(cond; update): def u: if cond then . else (update | u) end; u;
def repeat(f): def r: f, r; r;
def range($to): range(0; $to);
def range($from; $to; $by):
  if $by > 0 then $from | while(. < $to; . + $by)
  elif $by < 0 then $from | while(. > $to; . + $by)
  else empty end;
def limit($n; f): if $n > 0 then _limit($n; f) elif $n == 0 then empty else f end;
def first(f): _limit(1; f);
def first: .[0];
def last(f): reduce f as $x (null; $x);
def last: .[-1];
def nth($n): .[$n];
def nth($n; f): if $n < 0 then error("nth doesn't support negative indices") else ($n + 1) as $end | _limit(1; _skip($end - 1; f)) end;
def isempty(f): first((f | false), true);
def all(source; cond): isempty(source | cond and empty);
def any(source; cond): isempty(source | cond or empty) | not;
def all(cond): all(.[]; cond);
def any(cond): any(.[]; cond);
def all: all(.[]; .);
def any: any(.[]; .);
def in(f): . as $x | f | has($x);
def inside(f): . as $x | f | contains($x);
def combinations:
  if length == 0 then [] else .[0][] as $x | (.[1:] | combinations) as $rest | [$x] + $rest end;
def combinations(n): . as $whole | [range(n) | $whole] | combinations;
def transpose: [range(0; map(length) | max // 0) as $i | [.[][$i]]];
def walk(f): def w: if type == "object" then map_values(w) elif type == "array" then map(w) else . end | f; w;
def match(re; flags): _match(re; flags; false) | .[];
def match($what):
  ($what | type) as $kind
  | if $kind == "string" then match($what; null)
    elif $kind == "array" and ($what | length) > 1 then match($what[0]; $what[1])
    elif $kind == "array" and ($what | length) > 0 then match($what[0]; null)
    else error($kind + " not a string or array") end;
def test(re; flags): _match(re; flags; true);
def test($what):
  ($what | type) as $kind
  | if $kind == "string" then test($what; null)
    elif $kind == "array" and ($what | length) > 1 then test($what[0]; $what[1])
    elif $kind == "array" and ($what | length) > 0 then test($what[0]; null)
    else error($kind + " not a string or array") end;
def _captures: reduce (.captures | .[] | select(.name != null) | {(.name): .string}) as $pair ({}; . + $pair);
def capture(re; flags): match(re; flags) | _captures;
def capture($what):
  ($what | type) as $kind
  | if $kind == "string" then capture($what; null)
    elif $kind == "array" and ($what | length) > 1 then capture($what[0]; $what[1])
    elif $kind == "array" and ($what | length) > 0 then capture($what[0]; null)
    else error($kind + " not a string or array") end;
def scan($re; $flags):
  match($re; "g" + $flags) | if (.captures | length > 0) then [.captures | .[] | .string] else .string end;
def scan($re): scan($re; null);
def _nwise($n): def n: if length <= $n then . else .[0:$n], (.[$n:] | n) end; n;
def splits($re; flags):
  . as $text
  | [match($re; "g" + flags) | (.offset, .offset + .length)]
  | [0] + . + [$text | length]
  | _nwise(2)
  | $text[.[0]:.[1]];
def splits($re): splits($re; null);
def split($re; flags): [splits($re; flags)];
def sub($re; f; $flags):
  . as $text
  | (reduce match($re; $flags) as $found ({result: [], previous: 0};
      $text[.previous:($found | .offset)] as $gap
      | [$found | _captures | f] as $made
      | reduce range(0; $made | length) as $n (.; .result[$n] += $gap + $made[$n])
      | .previous = ($found | .offset + .length))
    | .result[] + $text[.previous:])
    // $text;
def sub($re; f): sub($re; f; "");
def gsub($re; f; flags): sub($re; f; flags + "g");
def gsub($re; f): sub($re; f; "g");
def fromdateiso8601: strptime("%Y-%m-%dT%H:%M:%SZ") | mktime;
def todateiso8601: strftime("%Y-%m-%dT%H:%M:%SZ");
def fromdate: fromdateiso8601;
def todate: todateiso8601;
def truncate_stream(stream):
  . as $n | null | stream | . as $event
  | if (.[0] | length) > $n then setpath([0]; $event[0][$n:]) else empty end;
def fromstream(f):
  {x: null, e: false} as $begin
  | foreach f as $event ($begin;
      if .e then $begin else . end
      | if $event | length == 2
        then setpath(["e"]; $event[0] | length == 0) | setpath(["x"] + $event[0]; $event[1])
        else setpath(["e"]; $event[0] | length == 1) end;
      if .e then .x else empty end);
def tostream:
  path(def r: (.[]? | r), .; r) as $path
  | getpath($path)
  | reduce path(.[]?) as $inner ([$path, .]; [$path + $inner]);
def bsearch($target):
  if length == 0 then -1
  elif length == 1 then if $target == .[0] then 0 elif $target < .[0] then -1 else -2 end
  else . as $in
    | [0, length - 1, null]
    | until(.[0] > .[1];
        if .[2] != null then (.[1] = -1)
        else (((.[1] + .[0]) / 2) | floor) as $middle
          | $in[$middle] as $found
          | if $found == $target then (.[2] = $middle)
            elif .[0] == .[1] then (.[1] = -1)
            elif $found < $target then (.[0] = ($middle + 1))
            else (.[1] = ($middle - 1)) end
        end)
    | if .[2] == null then if $in[.[0]] < $target then (-2 - .[0]) else (-1 - .[0]) end else .[2] end
  end;
def INDEX(stream; f): reduce stream as $row ({}; .[$row | f | tostring] = $row);
def INDEX(f): INDEX(.[]; f);
def JOIN($index; f): [.[] | [., $index[f]]];
def JOIN($index; stream; f): stream | [., $index[f]];
def JOIN($index; stream; f; join): stream | [., $index[f]] | join;
def IN(f): any(f == .; .);
def IN(source; f): any(source == f; .);
