package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

const (
	progressEvery = 200 * time.Millisecond // between redraws
	progressWidth = 30                     // of the bar, in characters
)

// progress draws how far a long piece of work is, with bytes and rate, on one
// line of a terminal; anywhere else it draws nothing.
type progress struct {
	out   io.Writer // nil: nothing is drawn
	what  string
	begun time.Time
	drawn time.Time
}

func newProgress(out io.Writer, what string) *progress {
	p := &progress{what: what, begun: time.Now()}
	if isTerminal(out) {
		p.out = out
	}
	return p
}

// isTerminal reports whether somebody may be looking.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// at tells that done bytes of total are done.
func (p *progress) at(done, total int64) {
	if p.out == nil || done < total && time.Since(p.drawn) < progressEvery {
		return
	}
	p.drawn = time.Now()
	fmt.Fprint(p.out, "\r"+p.line(done, total, p.drawn.Sub(p.begun))+"\x1b[K")
}

func (p *progress) line(done, total int64, took time.Duration) string {
	part := 1.0
	if total > 0 {
		part = min(float64(done)/float64(total), 1)
	}
	full := int(part * progressWidth)
	rate := int64(float64(done) / max(took.Seconds(), 0.001))
	return fmt.Sprintf("%s [%s%s] %3.0f%% %s of %s, %s/s", p.what, strings.Repeat("=", full),
		strings.Repeat(" ", progressWidth-full), 100*part, bytesText(done), bytesText(total), bytesText(rate))
}

// end leaves the line.
func (p *progress) end() {
	if p.out != nil && !p.drawn.IsZero() {
		fmt.Fprintln(p.out)
	}
}
