package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// DefaultRotation is etcd's default of --log-rotation-config-json.
const DefaultRotation = `{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}`

// Bounds of a Rotation.
const (
	defaultMaxSize = 100
	mostMaxSize    = 1 << 20 // a TiB
)

// Rotation says when a log file gets a new name and what becomes of the old ones.
// The names of its fields in JSON are etcd's.
type Rotation struct {
	// MaxSize is in MiB; 0 means 100. A file that would outgrow it is renamed.
	MaxSize int `json:"maxsize"`
	// MaxAge in days and MaxBackups bound the old files kept; 0 means no bound.
	MaxAge     int `json:"maxage"`
	MaxBackups int `json:"maxbackups"`
	// LocalTime names old files by the local time and not by UTC.
	LocalTime bool `json:"localtime"`
	// Compress has old files compressed with gzip.
	Compress bool `json:"compress"`
}

// ParseRotation reads --log-rotation-config-json for the outputs of --log-outputs,
// exactly one of which is a file.
func ParseRotation(text string, outputs []string) (*Rotation, error) {
	files := 0
	for _, name := range outputs {
		if isFile(name) {
			files++
		}
	}
	if files != 1 {
		return nil, fmt.Errorf("--enable-log-rotation: --log-outputs %q names %d files; name one, as in --log-outputs=/var/log/conclave.log", strings.Join(outputs, ","), files)
	}
	return ParseRotationOf("--log-rotation-config-json", text)
}

// ParseRotationOf reads the value of another flag of that form.
func ParseRotationOf(flag, text string) (*Rotation, error) {
	r := &Rotation{}
	decoder := json.NewDecoder(bytes.NewReader([]byte(text)))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(r)
	if err == nil && decoder.Decode(&struct{}{}) != io.EOF {
		err = errors.New("there is more after it")
	}
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s %s: %w; write an object such as %s", flag, text, err, DefaultRotation)
	case r.MaxSize < 0 || r.MaxSize > mostMaxSize || r.MaxAge < 0 || r.MaxBackups < 0:
		return nil, fmt.Errorf("%s %s: numbers are not negative, and maxsize is at most %d (MiB)", flag, text, mostMaxSize)
	case r.MaxSize == 0:
		r.MaxSize = defaultMaxSize
	}
	return r, nil
}

// isFile reports whether a name in --log-outputs is that of a file.
func isFile(name string) bool {
	switch name {
	case "default", "stderr", "stdout", "systemd/journal", "":
		return false
	}
	return true
}

// openLog opens a log file to append to it.
func openLog(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("--log-outputs %q: open the log file: %w", name, err)
	}
	return f, nil
}
