package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
)

const (
	// maxLogTail is how much of a log's end is looked at, maxWords how much of
	// a line is shown, both in bytes.
	maxLogTail = 64 << 10
	maxWords   = 400
)

// lastWords is the last thing a member's log says, for people: of a JSON line
// its message and what explains it, of a crash the line that names it.
func lastWords(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return "none, its log cannot be read: " + err.Error()
	}
	defer f.Close() //nolint:errcheck // only read
	if info, err := f.Stat(); err == nil && info.Size() > maxLogTail {
		_, _ = f.Seek(-maxLogTail, io.SeekEnd) // from the start, then
	}
	tail, _ := io.ReadAll(io.LimitReader(f, maxLogTail)) // what could be read
	return lastWordsOf(string(tail))
}

func lastWordsOf(tail string) string {
	last := ""
	for line := range strings.Lines(tail) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "panic: ") || strings.HasPrefix(line, "fatal error: ") {
			return clip(line) // what follows is a stack
		}
		if line != "" {
			last = line
		}
	}
	if last == "" {
		return "none, its log is empty"
	}
	var fields map[string]any
	if json.Unmarshal([]byte(last), &fields) != nil {
		return clip(last)
	}
	words := fmt.Sprint(fields["msg"])
	if e, ok := fields["error"]; ok {
		words += fmt.Sprintf(": %v", e)
	}
	var rest []string
	for key, value := range fields {
		if !slices.Contains([]string{"level", "ts", "caller", "msg", "error"}, key) {
			rest = append(rest, fmt.Sprintf("%s=%v", key, value))
		}
	}
	if slices.Sort(rest); len(rest) > 0 {
		words += " (" + strings.Join(rest, ", ") + ")"
	}
	return clip(words)
}

func clip(s string) string {
	if len(s) <= maxWords {
		return s
	}
	return strings.ToValidUTF8(s[:maxWords], "") + "..."
}
