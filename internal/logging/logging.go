package logging

import (
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/rs/zerolog"
)

// timeLayout is the layout etcd writes its ts key in: microseconds, local
// zone, "Z" for UTC.
const timeLayout = "2006-01-02T15:04:05.000000Z0700"

// Format is the form of a log line.
type Format string

// The formats of --log-format.
const (
	// JSON is one object per line.
	JSON Format = "json"
	// Console is time, level, caller, message and the remaining fields (as
	// JSON), separated by tabs.
	Console Format = "console"
)

// ParseFormat reads the value of --log-format; empty means JSON.
func ParseFormat(s string) (Format, error) {
	switch Format(s) {
	case "", JSON:
		return JSON, nil
	case Console:
		return Console, nil
	}
	return "", fmt.Errorf("--log-format %q: unknown format; use json or console", s)
}

// levels maps the words of --log-level. dpanic, which etcd accepts, is a
// panic here: there is no development mode.
var levels = map[string]zerolog.Level{
	"debug": zerolog.DebugLevel, "info": zerolog.InfoLevel, "warn": zerolog.WarnLevel,
	"error": zerolog.ErrorLevel, "dpanic": zerolog.PanicLevel, "panic": zerolog.PanicLevel,
	"fatal": zerolog.FatalLevel,
}

// ParseLevel reads the value of --log-level, in lower or upper case; empty
// means info.
func ParseLevel(s string) (zerolog.Level, error) {
	if s == "" {
		return zerolog.InfoLevel, nil
	}
	if l, ok := levels[strings.ToLower(s)]; ok {
		return l, nil
	}
	return zerolog.NoLevel, fmt.Errorf("--log-level %q: unknown level; use debug, info, warn, error, panic or fatal", s)
}

// New returns a logger that writes lines of at least the given level to out.
// out must be safe for concurrent use; Open returns one that is.
func New(level zerolog.Level, format Format, out io.Writer) zerolog.Logger {
	nameKeys()
	if format == Console {
		out = consoleWriter{out}
	}
	return zerolog.New(out).Level(level).With().Timestamp().Caller().Logger()
}

// nameKeys sets the key names, which zerolog keeps in package variables, once
// and before the first logger exists.
var nameKeys = sync.OnceFunc(func() {
	zerolog.TimestampFieldName = "ts"
	zerolog.TimeFieldFormat = timeLayout
	zerolog.MessageFieldName = "msg"
	zerolog.CallerMarshalFunc = shortCaller
})

// shortCaller names a source line as etcd does: the last directory, the file
// and the line.
func shortCaller(_ uintptr, file string, line int) string {
	dir, name := filepath.Split(file)
	return filepath.Base(dir) + "/" + name + ":" + strconv.Itoa(line)
}
