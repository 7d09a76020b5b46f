package pki

import (
	"sync"
	"sync/atomic"

	cfssllog "github.com/cloudflare/cfssl/log"
	"github.com/rs/zerolog"
)

// cfssl logs to one writer of the process, by default to standard error. The
// bridge takes that place before the first signature and passes everything on
// to the logger of the latest Renewer; without one it is silent.
var (
	bridgeOnce   sync.Once
	bridgeTarget atomic.Pointer[zerolog.Logger]
)

// bridge is cfssl's log writer.
type bridge struct{}

func installBridge() {
	bridgeOnce.Do(func() { cfssllog.SetLogger(bridge{}) })
}

// setBridge directs cfssl's messages to log, at a level below their own: what
// matters of them comes back as errors.
func setBridge(log zerolog.Logger) {
	installBridge()
	log = log.With().Str("from", "cfssl").Logger()
	bridgeTarget.Store(&log)
}

func (bridge) say(level zerolog.Level, msg string) {
	if log := bridgeTarget.Load(); log != nil {
		log.WithLevel(level).Msg(msg)
	}
}

func (b bridge) Debug(msg string)   { b.say(zerolog.TraceLevel, msg) }
func (b bridge) Info(msg string)    { b.say(zerolog.DebugLevel, msg) }
func (b bridge) Warning(msg string) { b.say(zerolog.InfoLevel, msg) }
func (b bridge) Err(msg string)     { b.say(zerolog.WarnLevel, msg) }
func (b bridge) Crit(msg string)    { b.say(zerolog.WarnLevel, msg) }
func (b bridge) Emerg(msg string)   { b.say(zerolog.ErrorLevel, msg) }
