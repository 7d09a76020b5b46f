package logging

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
)

// consoleWriter turns zerolog's JSON lines into tab separated ones.
type consoleWriter struct {
	out io.Writer
}

// Write takes one whole JSON line and writes one whole console line. A line
// that is not JSON passes unchanged: a log must not lose what it was given.
func (w consoleWriter) Write(line []byte) (int, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(line, &fields); err != nil {
		return w.out.Write(line)
	}
	var b bytes.Buffer
	for i, key := range []string{"ts", "level", "caller", "msg"} {
		if i > 0 {
			b.WriteByte('\t')
		}
		b.WriteString(plain(fields[key]))
		delete(fields, key)
	}
	if len(fields) > 0 {
		rest, err := json.Marshal(fields)
		if err != nil {
			return 0, fmt.Errorf("encode log fields: %w", err)
		}
		b.WriteByte('\t')
		b.Write(rest)
	}
	b.WriteByte('\n')
	if _, err := w.out.Write(b.Bytes()); err != nil {
		return 0, err
	}
	return len(line), nil
}

// plain is the text of a JSON string, or the JSON itself when the text would
// break the line into several.
func plain(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil || bytes.ContainsAny([]byte(s), "\n\r\t") {
		return string(raw)
	}
	return s
}
