package raftstore

import (
	"fmt"
	"io"
	"log"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/rs/zerolog"
)

// raftLogger is the bridge from the library's hclog to zerolog. raft reports
// elections and unreachable peers as warnings and errors; they are ordinary
// events of a cluster and are logged as such. An unreachable peer makes it
// repeat itself many times a second, so lines are sampled.
type raftLogger struct {
	log  zerolog.Logger
	name string
	args []any
}

func newRaftLogger(log zerolog.Logger, name string) hclog.Logger {
	sampled := log.With().Str("logger", name).Logger().Sample(&zerolog.BurstSampler{Burst: logBurst, Period: time.Second})
	return &raftLogger{log: sampled, name: name}
}

// logBurst is how many lines of the library are logged within a second.
const logBurst = 10

// Log writes one line; args are keys and values in turn.
func (l *raftLogger) Log(level hclog.Level, msg string, args ...any) {
	if !l.enabled(level) {
		return
	}
	event := l.log.WithLevel(zerologLevel(level))
	for _, pairs := range [2][]any{l.args, args} {
		for i := 0; i+1 < len(pairs); i += 2 {
			event = event.Str(fmt.Sprint(pairs[i]), text(pairs[i+1]))
		}
	}
	event.Msg(msg)
}

// text renders a value, including the library's deferred formats.
func text(value any) string {
	if f, ok := value.(hclog.Format); ok && len(f) > 0 {
		return fmt.Sprintf(fmt.Sprint(f[0]), f[1:]...)
	}
	return fmt.Sprint(value)
}

func zerologLevel(level hclog.Level) zerolog.Level {
	switch level {
	case hclog.Trace, hclog.Debug:
		return zerolog.DebugLevel
	case hclog.Warn, hclog.Error:
		return zerolog.WarnLevel
	default:
		return zerolog.InfoLevel
	}
}

func (l *raftLogger) enabled(level hclog.Level) bool {
	return zerologLevel(level) >= l.log.GetLevel()
}

func (l *raftLogger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *raftLogger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *raftLogger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *raftLogger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *raftLogger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *raftLogger) IsTrace() bool { return false }
func (l *raftLogger) IsDebug() bool { return l.enabled(hclog.Debug) }
func (l *raftLogger) IsInfo() bool  { return l.enabled(hclog.Info) }
func (l *raftLogger) IsWarn() bool  { return l.enabled(hclog.Warn) }
func (l *raftLogger) IsError() bool { return l.enabled(hclog.Error) }

func (l *raftLogger) ImpliedArgs() []any { return l.args }
func (l *raftLogger) Name() string       { return l.name }

// With returns a logger that adds args to each line.
func (l *raftLogger) With(args ...any) hclog.Logger {
	c := *l
	c.args = append(append([]any(nil), l.args...), args...)
	return &c
}

// Named and ResetNamed return a logger of another name.
func (l *raftLogger) Named(name string) hclog.Logger      { return newRaftLogger(l.log, name) }
func (l *raftLogger) ResetNamed(name string) hclog.Logger { return newRaftLogger(l.log, name) }

// SetLevel does nothing: the level is that of the logger passed in.
func (l *raftLogger) SetLevel(hclog.Level) {}

func (l *raftLogger) GetLevel() hclog.Level {
	if l.IsDebug() {
		return hclog.Debug
	}
	return hclog.Info
}

func (l *raftLogger) StandardLogger(*hclog.StandardLoggerOptions) *log.Logger {
	return log.New(l.StandardWriter(nil), "", 0)
}

func (l *raftLogger) StandardWriter(*hclog.StandardLoggerOptions) io.Writer {
	return writerFunc(func(p []byte) (int, error) {
		l.Info(string(p))
		return len(p), nil
	})
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
