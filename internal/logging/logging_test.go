package logging

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

func TestNew_jsonKeysAreEtcds(t *testing.T) {
	var out bytes.Buffer
	log := New(zerolog.InfoLevel, JSON, &out)
	log.Warn().Err(errors.New("disk full")).Int("port", 2379).Msg("cannot listen")

	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil {
		t.Fatalf("line is not one JSON object: %v\n%s", err, out.String())
	}
	want := map[string]any{"level": "warn", "msg": "cannot listen", "error": "disk full", "port": 2379.0}
	for key, value := range want {
		if line[key] != value {
			t.Errorf("key %q = %v, want %v", key, line[key], value)
		}
	}
	if ts, _ := line["ts"].(string); !parses(ts) {
		t.Errorf("ts = %q, want layout %s", ts, timeLayout)
	}
	caller, _ := line["caller"].(string)
	if !regexp.MustCompile(`^logging/logging_test\.go:\d+$`).MatchString(caller) {
		t.Errorf("caller = %q, want directory/file:line of the call", caller)
	}
	if !strings.HasSuffix(out.String(), "}\n") || strings.Count(out.String(), "\n") != 1 {
		t.Errorf("want one line, got %q", out.String())
	}
}

func parses(ts string) bool {
	_, err := time.Parse(timeLayout, ts)
	return err == nil
}

func TestNew_levelHidesLower(t *testing.T) {
	var out bytes.Buffer
	log := New(zerolog.WarnLevel, JSON, &out)
	log.Info().Msg("hidden")
	log.Error().Msg("shown")
	if got := out.String(); strings.Contains(got, "hidden") || !strings.Contains(got, "shown") {
		t.Errorf("at level warn the log holds %q", got)
	}
}

func TestNew_consoleIsTabSeparated(t *testing.T) {
	var out bytes.Buffer
	log := New(zerolog.DebugLevel, Console, &out)
	log.Debug().Str("peer", "m1").Msg("first\nsecond")
	log.Info().Msg("plain")

	lines := strings.Split(strings.TrimSuffix(out.String(), "\n"), "\n")
	if len(lines) != 2 {
		t.Fatalf("want two lines, got %q", out.String())
	}
	first := strings.Split(lines[0], "\t")
	if len(first) != 5 || !parses(first[0]) || first[1] != "debug" ||
		first[3] != `"first\nsecond"` || first[4] != `{"peer":"m1"}` {
		t.Errorf("first line = %q", first)
	}
	second := strings.Split(lines[1], "\t")
	if len(second) != 4 || second[1] != "info" || second[3] != "plain" {
		t.Errorf("second line = %q", second)
	}
}

func TestConsoleWriter_notJSONPasses(t *testing.T) {
	var out bytes.Buffer
	n, err := consoleWriter{&out}.Write([]byte("not json\n"))
	if err != nil || n != 9 || out.String() != "not json\n" {
		t.Errorf("wrote %d, %v: %q", n, err, out.String())
	}
}

func TestParseLevel_words(t *testing.T) {
	for word, want := range map[string]zerolog.Level{
		"": zerolog.InfoLevel, "debug": zerolog.DebugLevel, "INFO": zerolog.InfoLevel, "warn": zerolog.WarnLevel,
		"error": zerolog.ErrorLevel, "dpanic": zerolog.PanicLevel, "panic": zerolog.PanicLevel, "fatal": zerolog.FatalLevel,
	} {
		if got, err := ParseLevel(word); err != nil || got != want {
			t.Errorf("ParseLevel(%q) = %v, %v; want %v", word, got, err, want)
		}
	}
}

func TestParse_refusalNamesFlagAndValue(t *testing.T) {
	_, levelErr := ParseLevel("loud")
	_, formatErr := ParseFormat("xml")
	_, bothErr := Open([]string{"default", "stdout"}, nil)
	_, journalErr := Open([]string{"systemd/journal"}, nil)
	_, emptyErr := Open([]string{""}, nil)
	for _, c := range []struct {
		err  error
		want []string
	}{
		{levelErr, []string{"--log-level", `"loud"`, "debug"}},
		{formatErr, []string{"--log-format", `"xml"`, "console"}},
		{bothErr, []string{"--log-outputs", "default,stdout", "stderr"}},
		{journalErr, []string{"--log-outputs", "systemd/journal", "stderr"}},
		{emptyErr, []string{"--log-outputs", "stderr"}},
	} {
		for _, part := range c.want {
			if c.err == nil || !strings.Contains(c.err.Error(), part) {
				t.Errorf("error %q does not name %q", c.err, part)
			}
		}
	}
}

func TestOpen_filesArePrivateAndAppended(t *testing.T) {
	name := filepath.Join(t.TempDir(), "conclave.log")
	for _, text := range []string{"one\n", "two\n"} {
		out, err := Open([]string{name, name}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Write([]byte(text)); err != nil {
			t.Fatal(err)
		}
		if err := out.Close(); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(name)
	if err != nil || string(got) != "one\ntwo\n" {
		t.Errorf("log file holds %q, %v; want both lines once", got, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("log file mode = %v, %v; want 0600", info.Mode().Perm(), err)
	}
}

func TestOpen_missingDirectoryNamed(t *testing.T) {
	name := filepath.Join(t.TempDir(), "absent", "conclave.log")
	if _, err := Open([]string{name}, nil); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), name) {
		t.Errorf("error = %v, want one that names %s", err, name)
	}
}
