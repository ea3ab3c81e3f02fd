#!/usr/bin/env python3
"""Invents expressions: `invent.py SEED COUNT`. `generated.txt` is `invent.py 7 300`."""

import random
import sys

NAMES = ["a", "b", "c", "k", "v", "n", "to", "tags", "user"]
NUMBERS = ["0", "1", "2", "-1", "1.5", "3", "10", "1.0", "null", "nan"]
STRINGS = ['"a"', '"b"', '"x,y"', '""', '"to"', '"aXbX"', '"é"', '"1"']
PLAIN = [
    "length", "keys", "not", "type", "add", "any", "all", "sort", "unique", "reverse", "first", "last", "tostring",
    "tonumber", "tojson", "min", "max", "to_entries", "from_entries", "flatten", "floor", "values", "scalars", "empty",
    "error", "explode", "ascii_upcase", "transpose", "keys_unsorted", "fromjson", "implode", "isempty(.[])", "numbers",
    "strings", "arrays", "objects", "@text", "@json", "@csv", "@html", "@uri", "@sh", "@base64", "tostream", "recurse",
    "..", "abs", "paths", "combinations", "utf8bytelength", "null", "true", "false", "infinite", "sqrt", "round",
]
ONE = [
    "map", "select", "map_values", "sort_by", "group_by", "unique_by", "min_by", "max_by", "any", "all", "path", "del",
    "with_entries", "has", "contains", "index", "rindex", "indices", "join", "split", "startswith", "endswith",
    "ltrimstr", "rtrimstr", "range", "first", "last", "recurse", "walk", "paths", "in", "inside", "isempty", "flatten",
    "getpath", "test", "match", "capture", "scan", "splits", "pick", "error", "tojson|", "IN", "INDEX", "nth",
    "combinations", "delpaths", "bsearch",
]
TWO = ["limit", "range", "sub", "gsub", "setpath", "nth", "until", "any", "all", "pow", "IN", "test", "split", "recurse"]
OPERATORS = ["+", "-", "*", "/", "%", "==", "!=", "<", ">", "<=", ">=", "and", "or", "//", ",", "|"]
ASSIGNMENTS = ["=", "|=", "+=", "-=", "*=", "//="]


class Inventor:
    def __init__(self, seed):
        self.random = random.Random(seed)
        self.variables = []

    def pick(self, of):
        return self.random.choice(of)

    def path(self, depth):
        path = self.pick([".", ".", ".[]", ".[0]", ".[-1]", ".[]?", ".[1:]", ".[:-1]", "."] + ["." + n for n in NAMES])
        for _ in range(self.random.randint(0, 2)):
            more = self.pick(["[]", "[0]", "[]?", "?", "[1:]"] + ["." + n for n in NAMES])
            path = (path if path != "." or more[0] == "[" else "") + more
        return path if not path.startswith("?") else "."

    def term(self, depth):
        if depth <= 0:
            choices = [lambda: self.path(0), lambda: self.pick(NUMBERS), lambda: self.pick(STRINGS)]
            choices += [lambda: self.path(0), lambda: self.pick(PLAIN)]
            if self.variables:
                choices.append(lambda: "$" + self.pick(self.variables))
            return self.pick(choices)()
        return self.pick([self.binary, self.binary, self.call, self.call, self.construct, self.control, self.assign,
                          self.bind, lambda d: self.path(d), lambda d: f"({self.term(d - 1)})?"])(depth)

    def binary(self, depth):
        return f"{self.wrapped(depth - 1)} {self.pick(OPERATORS)} {self.wrapped(depth - 1)}"

    def wrapped(self, depth):
        term = self.term(depth)
        return f"({term})" if self.random.random() < 0.6 else term

    def call(self, depth):
        kind = self.random.random()
        if kind < 0.3:
            return self.pick(PLAIN)
        if kind < 0.8:
            name = self.pick(ONE)
            if name == "tojson|":
                return "tojson|fromjson"
            return f"{name}({self.term(depth - 1)})"
        name = self.pick(TWO)
        first = self.pick(STRINGS) if name in ("sub", "gsub", "test", "split") else self.term(depth - 1)
        if name == "until":
            return f"limit(3; ., {self.term(depth - 1)})"
        return f"{name}({first}; {self.term(depth - 1)})"

    def construct(self, depth):
        kind = self.random.random()
        if kind < 0.4:
            return f"[{self.term(depth - 1)}]"
        if kind < 0.7:
            return "{" + f"{self.pick(NAMES)}: ({self.term(depth - 1)}), ({self.pick(STRINGS)}): ({self.term(depth - 1)})" + "}"
        if kind < 0.85:
            return '"' + f"x\\({self.term(depth - 1)})y\\({self.term(depth - 1)})" + '"'
        return self.pick(["{a}", "{to, n}", "{$__loc__}", "[]", "{}", "[.[]?]"])

    def control(self, depth):
        kind = self.random.random()
        one, two, three = (self.term(depth - 1) for _ in range(3))
        if kind < 0.3:
            return f"if {one} then {two} else {three} end"
        if kind < 0.4:
            return f"if {one} then {two} end"
        if kind < 0.55:
            return f"try ({one}) catch ({two})"
        if kind < 0.7:
            return f"label $out | {self.wrapped(depth - 1)} | (., break $out)"
        if kind < 0.85:
            return f"reduce ({one}) as $i ({two}; {self.with_variable('i', depth)})"
        return f"[limit(20; foreach ({one}) as $i ({two}; {self.with_variable('i', depth)}))]"

    def with_variable(self, name, depth):
        self.variables.append(name)
        term = self.term(depth - 1)
        self.variables.pop()
        return term

    def bind(self, depth):
        pattern, names = self.pick([("$x", ["x"]), ("[$x, $y]", ["x", "y"]), ("{a: $x, $n}", ["x", "n"])])
        source = self.wrapped(depth - 1)
        self.variables += names
        body = self.term(depth - 1)
        del self.variables[-len(names):]
        return f"({source}) as {pattern} | {body}"

    def assign(self, depth):
        target = self.path(depth) if self.random.random() < 0.7 else f"({self.term(depth - 1)})"
        return f"{target} {self.pick(ASSIGNMENTS)} {self.wrapped(depth - 1)}"


def main():
    inventor = Inventor(int(sys.argv[1]))
    for _ in range(int(sys.argv[2])):
        print(inventor.term(inventor.random.randint(1, 3)))


main()
