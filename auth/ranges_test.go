package auth

import (
	"testing"

	"go.etcd.io/etcd/api/v3/authpb"
)

// reader takes permissions and ranges out of bytes made by chance.
type reader []byte

func (r *reader) byte() byte {
	if len(*r) == 0 {
		return 0
	}
	b := (*r)[0]
	*r = (*r)[1:]
	return b
}

// bytes are up to three, so that ranges touch and overlap.
func (r *reader) bytes() []byte {
	n := min(int(r.byte()%4), len(*r))
	b := (*r)[:n]
	*r = (*r)[n:]
	return b
}

// What merged permissions contain is what each of them, looked at for every boundary,
// does: also where they overlap, touch, have no end, are the wrong way round, or
// empty.
func FuzzRanges_model(f *testing.F) {
	const readWrite = string(rune(authpb.Permission_READWRITE))
	for _, seed := range []string{
		"",
		"\x01" + "\x01a\x01b" + "\x00\x01a\x01b", // as granted
		"\x02" + "\x01a\x01c\x00" + "\x01b\x01d\x00" + "\x01a\x01d",           // overlapping
		"\x02" + "\x01a\x01b\x00" + "\x01b\x01c\x00" + "\x01a\x01c",           // adjacent
		"\x02" + "\x01a\x01b\x00" + "\x02b\x00\x01c\x00" + "\x01a\x01c",       // with a key between them
		"\x01" + "\x01b\x01\x00\x00" + "\x01c\x01\x00",                        // open-ended
		"\x01" + "\x01b\x01\x00" + readWrite + "\x01a\x01\x00",                // open-ended, begins before
		"\x01" + "\x01b\x01a\x00" + "\x01a\x00",                               // inverted
		"\x01" + "\x01a\x01c\x00" + "\x01c\x01a",                              // asked for inverted
		"\x01" + "\x00\x01\x00\x00" + "\x00\x00",                              // empty key
		"\x02" + "\x01a\x00\x00" + "\x02a\x00\x00\x00" + "\x01a\x03a\x00\x00", // single keys next to each other
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r := reader(data)
		n := naive{roles: map[string][]*authpb.Permission{"r": nil}, users: map[string][]string{"u": {"r"}}}
		var perms []*authpb.Permission
		for range r.byte() % 8 {
			p := &authpb.Permission{Key: r.bytes(), RangeEnd: r.bytes(), PermType: authpb.Permission_Type(r.byte() % 3)}
			if validRange(p.Key, p.RangeEnd) { // others cannot be granted
				perms = append(perms, p)
			}
		}
		n.roles["r"] = perms
		g := grantOf(perms)
		key, end := r.bytes(), r.bytes()
		for want, have := range map[authpb.Permission_Type]ranges{read: g.read, write: g.write} {
			permitted := n.permits("u", want, string(key), string(end))
			if got := have.contain(key, end); got != permitted {
				t.Errorf("%v of [%q, %q) with %v: %t", want, key, end, perms, got)
			}
			if explained := Explain(n.roles, want == write, key, end) != nil; explained != permitted {
				t.Errorf("%v of [%q, %q) with %v is explained: %t", want, key, end, perms, explained)
			}
			for i, s := range have {
				if s.empty() || i > 0 && (have[i-1].hi == "" || have[i-1].hi >= s.lo) {
					t.Errorf("%v are merged into %v", perms, have)
				}
			}
		}
	})
}
