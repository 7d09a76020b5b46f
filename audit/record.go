package audit

import (
	"crypto/x509"
	"net"
	"slices"
	"time"
)

// Proof says how somebody has shown who they are.
type Proof string

// The proofs.
const (
	NoProof     Proof = "none"
	Password    Proof = "password"    // a login
	Token       Proof = "token"       // of a login, remembered by the members
	JWT         Proof = "jwt"         // a signed token
	Certificate Proof = "certificate" // the common name of a client certificate
)

// Decision is what became of the wish to do something.
type Decision string

// The decisions.
const (
	Allowed      Decision = "allowed" // and done
	RefusedRight Decision = "denied"  // for want of a right or of a proof
	Failed       Decision = "failed"  // for any other reason; the code says which
)

// Record is one request and what became of it. What it points to must not change
// after it was added.
type Record struct {
	Time time.Time // when it came
	// User is who asked, empty for nobody known. AuthOff: authentication was off, so
	// that it did not matter.
	User    string
	Proof   Proof
	AuthOff bool
	// Certificate is that of the connection, verified; nil: there was none.
	Certificate *x509.Certificate
	Remote      net.Addr // nil: unknown
	JSON        bool     // it came through the JSON gateway
	Method      string   // the full name of the RPC
	Target
	Revision int64 // of the answer; 0: it has none
	Decision Decision
	Code     string // of gRPC
	Error    string // in words; empty for OK
	Latency  time.Duration

	reserved int64 // bytes of the queue that are kept for it; 0: none
}

// Target is what a request is about.
type Target struct {
	// Key and End are the range of a request about keys.
	Key, End []byte
	// Ops are those of a transaction, nested ones too; Left says how many more
	// there were.
	Ops  []Op
	Left int
	// Facts are whatever else is worth telling, by name.
	Facts []Fact
}

// Op is one operation of a transaction.
type Op struct {
	Kind string // compare, range, put or delete
	// In is the branch: if, then or else, and for a nested transaction those on the
	// way to it: then/else.
	In       string
	Key, End []byte
}

// Fact is a name and a value. The value is a string, a number or a list of strings.
type Fact struct {
	Name  string
	Value any
}

// Bounds of what a record holds and a line tells.
const (
	maxKey  = 256 // bytes of a key; of a longer one its length is told
	maxOps  = 256
	maxText = 512 // bytes of any other text
	maxList = 16  // texts of a list
)

// MaxOps is how many operations of a transaction a record lists.
const MaxOps = maxOps

// weight is about what a record keeps in memory, in bytes.
func (r *Record) weight() int64 {
	const own, op, fact = 400, 96, 64
	n := own + len(r.User) + len(r.Method) + len(r.Error) + len(r.Key) + len(r.End) + op*len(r.Ops) + fact*len(r.Facts)
	for i := range r.Ops {
		n += len(r.Ops[i].Key) + len(r.Ops[i].End)
	}
	for _, f := range r.Facts {
		switch v := f.Value.(type) {
		case string:
			n += len(v)
		case []string:
			for _, s := range v {
				n += len(s)
			}
		}
	}
	return int64(n)
}

// clip has the record hold no more of what is long than is told.
func (r *Record) clip() {
	r.User, r.Method, r.Error = brief(r.User), brief(r.Method), brief(r.Error)
	for i, f := range r.Facts {
		switch v := f.Value.(type) {
		case string:
			if len(v) > maxText { // else it would be boxed anew
				r.Facts[i].Value = brief(v)
			}
		case []string:
			list := make([]string, 0, min(len(v), maxList))
			for _, s := range v[:min(len(v), maxList)] {
				list = append(list, brief(s))
			}
			r.Facts[i].Value = list
		}
	}
	r.Key, r.End = r.cut("key_bytes", r.Key), r.cut("range_end_bytes", r.End)
	if len(r.Ops) > maxOps {
		r.Left += len(r.Ops) - maxOps
		r.Ops = slices.Clone(r.Ops[:maxOps])
	}
	for i := range r.Ops {
		o := &r.Ops[i]
		o.Key, o.End = short(o.Key), short(o.End)
	}
}

// brief copies the beginning of a long text, so that the rest can go.
func brief(s string) string {
	if len(s) <= maxText {
		return s
	}
	return s[:maxText] + "..."
}

func (r *Record) cut(name string, key []byte) []byte {
	if len(key) <= maxKey {
		return key
	}
	r.Facts = append(r.Facts, Fact{name, int64(len(key))})
	return short(key)
}

// short copies the beginning of a long key, so that the rest can go.
func short(key []byte) []byte {
	if len(key) <= maxKey {
		return key
	}
	return append([]byte(nil), key[:maxKey]...)
}
