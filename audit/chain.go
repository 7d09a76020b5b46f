package audit

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"strconv"
	"time"
)

// Hash is that of a record: SHA-256 over its line up to where the hash itself
// stands. The line has the hash of the record before.
type Hash = [sha256.Size]byte

// Head is the newest record of a chain: its number, from 1 on, and its hash. The
// zero Head is before the first one.
type Head struct {
	Seq  uint64
	Hash Hash
}

// hashMark is what stands between what is hashed and the hash.
const hashMark = `,"hash":"`

// tail is what stands behind what is hashed, with the newline.
const tail = len(hashMark) + 2*sha256.Size + len("\"}\n")

// chain makes lines out of records.
type chain struct {
	Head
	member string // hexadecimal
}

// begin opens the next line.
func (c *chain) begin(b []byte, at time.Time) []byte {
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, c.Seq+1, 10)
	b = appendTime(b, "time", at)
	return appendText(b, "member", c.member)
}

// end closes the line that begins at from, and goes on to it.
func (c *chain) end(b []byte, from int) []byte {
	b = append(appendName(b, "prev"), '"')
	b = hex.AppendEncode(b, c.Hash[:])
	b = append(b, '"')
	c.Seq++
	c.Hash = sha256.Sum256(b[from:])
	b = append(b, hashMark...)
	b = hex.AppendEncode(b, c.Hash[:])
	return append(b, "\"}\n"...)
}

func (c *chain) record(b []byte, r *Record) []byte {
	from := len(b)
	return c.end(appendRecord(c.begin(b, r.Time), r), from)
}

// What can happen to the log itself.
const (
	eventStart   = "start"
	eventStop    = "stop"
	eventDropped = "dropped"
)

func (c *chain) event(b []byte, at time.Time, name string, facts ...Fact) []byte {
	from := len(b)
	b = appendText(c.begin(b, at), "event", name)
	for _, f := range facts {
		b = appendFact(b, f)
	}
	return c.end(b, from)
}

// link is what a line says of the chain.
type link struct {
	Seq    uint64 `json:"seq"`
	Member string `json:"member"`
	Event  string `json:"event"`
	Prev   string `json:"prev"`

	prev, hash Hash
	sound      bool // the hash is that of the line
}

// parseLine reads a line without its newline. It is not a record if ok is false; one
// that was changed is, and not sound.
func parseLine(line []byte) (l link, ok bool) {
	at := len(line) - (tail - 1)
	if at <= 0 || !bytes.HasPrefix(line[at:], []byte(hashMark)) || !bytes.HasSuffix(line, []byte(`"}`)) {
		return l, false
	}
	if json.Unmarshal(line, &l) != nil || l.Seq == 0 || !unhex(&l.prev, []byte(l.Prev)) {
		return l, false
	}
	from := at + len(hashMark)
	if !unhex(&l.hash, line[from:from+2*sha256.Size]) {
		return l, false
	}
	l.sound = sha256.Sum256(line[:at]) == l.hash
	return l, true
}

func unhex(to *Hash, text []byte) bool {
	if len(text) != 2*sha256.Size {
		return false
	}
	_, err := hex.Decode(to[:], text)
	return err == nil
}
