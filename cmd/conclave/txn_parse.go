package main

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"

	"github.com/urfave/cli/v2"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// parseRequest reads one request of a transaction: a put, get or del command
// with its flags and arguments, quoted as in a shell.
func parseRequest(c *cli.Context, line string) (clientv3.Op, error) {
	args, err := splitQuoted(line)
	if err != nil || len(args) < 2 {
		return clientv3.Op{}, fmt.Errorf("invalid txn compare request: %s", line)
	}
	var found clientv3.Op
	var collect opSink = func(_ *cli.Context, op clientv3.Op) error {
		found = op
		return nil
	}
	app := newApp(stdio{in: strings.NewReader(""), out: io.Discard, err: c.App.ErrWriter})
	app.Flags = nil
	app.Commands = []*cli.Command{
		putCommand(collect), delCommand(collect),
		getCommand(func(c *cli.Context, req getRequest) error { return collect(c, req.op()) }),
	}
	tame(app.Commands)
	request, err := arrange(app, args)
	if err != nil || len(request.words) == 0 || request.help {
		return clientv3.Op{}, fmt.Errorf("invalid txn request: %s", line)
	}
	return found, app.RunContext(c.Context, request.argv())
}

// splitQuoted splits a line into words. A word in double quotes has Go's
// escapes, one in single quotes none.
func splitQuoted(line string) ([]string, error) {
	var words []string
	for {
		line = strings.TrimLeftFunc(line, unicode.IsSpace)
		if line == "" {
			return words, nil
		}
		var word string
		switch line[0] {
		case '"':
			quoted, err := strconv.QuotedPrefix(line)
			if err != nil {
				return nil, fmt.Errorf("unfinished quote in: %s", line)
			}
			if word, err = strconv.Unquote(quoted); err != nil {
				return nil, err
			}
			line = line[len(quoted):]
		case '\'':
			inner, rest, ok := strings.Cut(line[1:], "'")
			if !ok {
				return nil, fmt.Errorf("unfinished quote in: %s", line)
			}
			word, line = inner, rest
		default:
			end := strings.IndexFunc(line, unicode.IsSpace)
			if end < 0 {
				end = len(line)
			}
			word, line = line[:end], line[end:]
		}
		words = append(words, word)
	}
}

// compareTargets are the left sides of a comparison.
var compareTargets = map[string]func(string) clientv3.Cmp{
	"c": clientv3.CreateRevision, "create": clientv3.CreateRevision,
	"m": clientv3.ModRevision, "mod": clientv3.ModRevision,
	"ver": clientv3.Version, "version": clientv3.Version,
	"val": clientv3.Value, "value": clientv3.Value,
	"lease": func(key string) clientv3.Cmp { return clientv3.LeaseValue(key) },
}

// parseCompare reads one comparison, target("key") op "value".
func parseCompare(line string) (clientv3.Cmp, error) {
	target, rest, ok := strings.Cut(line, "(")
	if !ok {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s", line)
	}
	key, op, value, ok := compareParts(rest)
	if !ok {
		return clientv3.Cmp{}, fmt.Errorf(`malformed comparison: %s; got %s(%q) %s %q`, line, target, key, op, value)
	}
	left, ok := compareTargets[target]
	if !ok {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (unknown target %s)", line, target)
	}
	if !strings.Contains("|=|!=|<|>|", "|"+op+"|") {
		return clientv3.Cmp{}, fmt.Errorf("malformed comparison: %s (unknown operator %s; use =, !=, < or >)", line, op)
	}
	right, err := compareValue(target, value)
	if err != nil {
		return clientv3.Cmp{}, fmt.Errorf("invalid txn compare request: %s", line)
	}
	return clientv3.Compare(left(key), op, right), nil
}

// compareParts reads `"key") op "value"`.
func compareParts(s string) (key, op, value string, ok bool) {
	s = strings.TrimLeftFunc(s, unicode.IsSpace)
	if key, s, ok = cutQuoted(s); !ok {
		return key, op, value, false
	}
	if s, ok = strings.CutPrefix(s, ")"); !ok {
		return key, op, value, false
	}
	s = strings.TrimLeftFunc(s, unicode.IsSpace)
	n := len(s) - len(strings.TrimLeft(s, "=!<>"))
	op, s = s[:n], strings.TrimLeftFunc(s[n:], unicode.IsSpace)
	value, s, ok = cutQuoted(s)
	return key, op, value, ok && s == ""
}

// cutQuoted reads a quoted Go string off the front of s.
func cutQuoted(s string) (text, rest string, ok bool) {
	quoted, err := strconv.QuotedPrefix(s)
	if err != nil || quoted[0] == '\'' {
		return "", s, false
	}
	text, err = strconv.Unquote(quoted)
	return text, s[len(quoted):], err == nil
}

// compareValue reads the right side: text for values, a lease id in
// hexadecimal as commands print it, numbers for the rest.
func compareValue(target, s string) (any, error) {
	switch target {
	case "val", "value":
		return s, nil
	case "lease":
		id, err := leaseID(s)
		return int64(id), err
	}
	return strconv.ParseInt(s, 10, 64)
}
