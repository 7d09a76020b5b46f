package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// Every way of changing a log is found, and said where it is.
func TestVerifier_findsChanges(t *testing.T) {
	var m memory
	_, lines := written(t, &m, "a", "b", "c", "d") // records 2 to 5, between start and stop
	whole := strings.Join(lines, "") + "\n"
	edit := func(i int, old, now string) string {
		out := slices.Clone(lines)
		if !strings.Contains(out[i], old) {
			t.Fatalf("line %d has no %q", i+1, old)
		}
		out[i] = strings.Replace(out[i], old, now, 1)
		return strings.Join(out, "") + "\n"
	}
	without := func(i, n int) string { return strings.Join(slices.Delete(slices.Clone(lines), i, i+n), "") + "\n" }
	swapped := slices.Clone(lines)
	swapped[2], swapped[3] = swapped[3], swapped[2]
	for name, c := range map[string]struct{ text, want string }{
		"nothing":           {whole, ""},
		"a user":            {edit(2, "alice", "mallory"), "a:3: record 3 was edited"},
		"a key":             {edit(2, `"key":"Yg=="`, `"key":"Yw=="`), "a:3: record 3 was edited"},
		"a time":            {edit(2, "1970", "1971"), "a:3: record 3 was edited"},
		"a decision":        {edit(2, "allowed", "denied"), "a:3: record 3 was edited"},
		"a number":          {edit(2, `"seq":3`, `"seq":9`), "records 3 to 8 are missing"},
		"a hash":            {edit(2, `"hash":"`, `"hash":"0`), "a:3: no record"},
		"white space":       {edit(2, `,"proof"`, ` ,"proof"`), "a:3: record 3 was edited"},
		"the end of a line": {edit(2, "}\n", "} \n"), "a:3: no record"},
		"a line":            {without(2, 1), "a:3: record 3 is missing"},
		"two lines":         {without(2, 2), "a:3: records 3 to 4 are missing"},
		"order":             {strings.Join(swapped, "") + "\n", "a:3: record 3 is missing"},
		"a repetition":      {strings.Join(slices.Insert(slices.Clone(lines), 2, lines[2]), "") + "\n", "a:4: record 3 comes after record 3"},
		"an addition":       {strings.Join(slices.Insert(slices.Clone(lines), 2, "{}\n"), "") + "\n", "a:3: no record"},
		"an empty line":     {strings.Join(slices.Insert(slices.Clone(lines), 2, "\n"), "") + "\n", "a:3: no record"},
		"the end":           {without(4, 2), "the end is cut: the cluster remembers record 6 of member abc, and the last one here is 4"},
		"all":               {"", "there are no records"},
		"a long line":       {strings.Replace(whole, "alice", strings.Repeat("x", maxLine), 1), "the line is cut"},
		"the last byte":     {whole[:len(whole)-3], "the end is cut"},
	} {
		t.Run(name, func(t *testing.T) {
			v, sum := verify(t, m.of, c.text)
			switch {
			case c.want == "" && len(v.Problems) > 0:
				t.Errorf("found %v", v.Problems)
			case c.want == "":
				if sum != (Summary{Records: 6, First: 1, Last: 6, Anchored: 6}) {
					t.Errorf("read %+v", sum)
				}
			case !strings.Contains(fmt.Sprint(v.Problems), c.want):
				t.Errorf("found %v, want %q", v.Problems, c.want)
			}
		})
	}
}

// Who writes a chain anew gets by without the cluster, and not with it.
func TestVerifier_rewrittenChain(t *testing.T) {
	var m memory
	written(t, &m, "a", "b")
	var other memory
	_, forged := written(t, &other, "a", "x")
	text := strings.Join(forged, "") + "\n"
	if v, _ := verify(t, nil, text); len(v.Problems) > 0 {
		t.Errorf("without the cluster: %v", v.Problems)
	}
	v, _ := verify(t, m.of, text)
	if got := fmt.Sprint(v.Problems); !strings.Contains(got, "record 4 is not the one that the cluster remembers") {
		t.Errorf("with the cluster: %v", got)
	}
	// Nor does it help to be somebody else.
	text = resealed(t, strings.ReplaceAll(text, `"member":"abc"`, `"member":"abd"`))
	v, _ = verify(t, func(member string) ([]Head, error) {
		if member == "abc" {
			return m.of(member)
		}
		return nil, nil
	}, text)
	if got := fmt.Sprint(v.Problems); !strings.Contains(got, "confirms none") {
		t.Errorf("as another member: %v", got)
	}
}

// resealed makes a chain of lines that were changed.
func resealed(t *testing.T, text string) string {
	t.Helper()
	var out strings.Builder
	prev := Hash{}
	for line := range strings.Lines(text) {
		body, _, ok := strings.Cut(line, `,"prev":"`)
		if !ok {
			t.Fatalf("no record: %s", line)
		}
		body += `,"prev":"` + hex.EncodeToString(prev[:]) + `"`
		prev = sha256.Sum256([]byte(body))
		out.WriteString(body + hashMark + hex.EncodeToString(prev[:]) + "\"}\n")
	}
	return out.String()
}

// A line can be checked by hand, as the documents say.
func TestChain_hashIsOfTheLine(t *testing.T) {
	_, lines := written(t, &memory{}, "a")
	body, rest, _ := strings.Cut(lines[1], `,"hash":`)
	sum := sha256.Sum256([]byte(body))
	if want := `"` + hex.EncodeToString(sum[:]) + "\"}\n"; rest != want {
		t.Errorf("the hash is %s, want %s", rest, want)
	}
}

// FuzzVerifier has it read anything: it neither fails nor finds records in order in
// what is none.
func FuzzVerifier(f *testing.F) {
	c := chain{member: "abc"}
	text := c.event(nil, time.Unix(1, 0), eventStart)
	for _, key := range []string{"a", "b"} {
		text = c.record(text, put(key))
	}
	f.Add(text)
	f.Add(text[:len(text)-5])
	f.Add([]byte("{}\n\n"))
	head := c.Head
	f.Fuzz(func(t *testing.T, data []byte) {
		v, sum := verify(t, func(string) ([]Head, error) { return []Head{head}, nil }, string(data))
		if len(v.Problems) == 0 && !strings.Contains(string(data), hex.EncodeToString(head.Hash[:])) {
			t.Errorf("nothing is wrong with %q: %+v", data, sum)
		}
	})
}
