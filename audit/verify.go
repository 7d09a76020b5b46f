package audit

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
)

// maxLine bounds a line that is read, in bytes; none that is written is longer.
const maxLine = 1 << 20

// maxProblems bounds those that a Verifier tells; the first is the one to look at.
const maxProblems = 20

// cutLine is said of a line without an end.
const cutLine = "the line is cut: it is no record"

// Problem is a place where the records are not as they were written.
type Problem struct {
	File string
	Line int // from 1 on; 0: at the end of all files
	What string
}

// String is one line.
func (p Problem) String() string {
	if p.Line == 0 {
		return p.File + ": " + p.What
	}
	return p.File + ":" + strconv.Itoa(p.Line) + ": " + p.What
}

// Verifier reads the files of one member's log, the oldest first, and finds what was
// changed in them. It is used by one goroutine, and reads each file once.
type Verifier struct {
	// Anchors tells what the cluster remembers of a member (its id in hexadecimal),
	// and is called once for each; nil: nobody is asked.
	Anchors func(member string) ([]Head, error)
	// Problems are those found so far, at most 20.
	Problems []Problem
	// Notes are what is worth knowing and no proof of a change.
	Notes []Problem

	records uint64
	first   uint64            // number of the first record
	last    link              // the newest record; Seq 0: none yet
	known   map[anchor]Hash   // what the cluster remembers
	newest  map[string]uint64 // of it, by member asked about
	seen    map[string]uint64 // newest record here, by member
	covered uint64            // the newest record that an anchor confirmed
	cut     *Problem
	file    string
	line    int
}

type anchor struct {
	member string
	seq    uint64
}

// ask learns what the cluster remembers of a member whose record comes.
func (v *Verifier) ask(member string) error {
	if _, asked := v.newest[member]; asked || v.Anchors == nil {
		return nil
	}
	heads, err := v.Anchors(member)
	if err != nil {
		return err
	}
	if v.known == nil {
		v.known, v.newest, v.seen = make(map[anchor]Hash), make(map[string]uint64), make(map[string]uint64)
	}
	v.newest[member] = 0
	for _, h := range heads {
		v.known[anchor{member, h.Seq}] = h.Hash
		v.newest[member] = max(v.newest[member], h.Seq)
	}
	return nil
}

// Read reads the next file. An error is one of reading, or of Anchors: what is wrong
// with the records is in Problems.
func (v *Verifier) Read(name string, r io.Reader) error {
	v.file, v.line = name, 0
	lines := bufio.NewReaderSize(r, 64<<10)
	for {
		line, whole, err := readLine(lines)
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("read %s: %w", name, err)
		}
		if err != nil && len(line) == 0 {
			return nil
		}
		v.line++
		if err := v.check(line, whole); err != nil {
			return err
		}
	}
}

// readLine returns the next line without its newline, of a long one the beginning;
// whole is false where there is no newline, or the line is too long.
func readLine(r *bufio.Reader) (line []byte, whole bool, err error) {
	for {
		part, err := r.ReadSlice('\n')
		if room := maxLine - len(line); len(part) > room {
			line = append(line, part[:room]...)
		} else {
			line = append(line, part...)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if err != nil {
			return line, false, err
		}
		if len(line) == maxLine {
			return line, false, nil
		}
		return line[:len(line)-1], true, nil
	}
}

func (v *Verifier) problem(format string, args ...any) {
	if len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, Problem{v.file, v.line, fmt.Sprintf(format, args...)})
	}
}

// check looks at one line. An error is of Anchors.
func (v *Verifier) check(line []byte, whole bool) error {
	l, ok := link{}, false
	if whole {
		l, ok = parseLine(line)
	}
	if !ok {
		v.settle()
		what := "no record: it was edited, or put in"
		if !whole {
			what = cutLine
		}
		v.cut = &Problem{v.file, v.line, what}
		return nil
	}
	// A crash can leave a line in part. The next one is then a start, and the chain
	// goes on over it.
	if v.cut != nil && l.Event == eventStart && l.sound && v.follows(l) {
		v.Notes = append(v.Notes, Problem{v.cut.File, v.cut.Line, "the line is cut, as a crash leaves it; no record is missing there"})
		v.cut = nil
	}
	v.settle()
	if err := v.ask(l.Member); err != nil {
		return err
	}
	v.records++
	v.compare(l)
	v.last = l
	if v.seen != nil {
		v.seen[l.Member] = max(v.seen[l.Member], l.Seq)
	}
	return nil
}

// settle says that a line was no record, if no crash explains it.
func (v *Verifier) settle() {
	if v.cut != nil && len(v.Problems) < maxProblems {
		v.Problems = append(v.Problems, *v.cut)
	}
	v.cut = nil
}

func (v *Verifier) follows(l link) bool {
	return v.last.Seq == 0 || l.Seq == v.last.Seq+1 && l.prev == v.last.hash
}

// compare looks at a record and the one before it.
func (v *Verifier) compare(l link) {
	switch {
	case v.last.Seq == 0:
		v.first = l.Seq
		if l.Seq == 1 && l.prev != (Hash{}) {
			v.problem("record 1 is not the first of its chain")
		}
	case v.follows(l):
	case l.Seq > v.last.Seq+2:
		v.problem("records %d to %d are missing before record %d", v.last.Seq+1, l.Seq-1, l.Seq)
	case l.Seq == v.last.Seq+2:
		v.problem("record %d is missing before record %d", l.Seq-1, l.Seq)
	case l.Seq <= v.last.Seq:
		v.problem("record %d comes after record %d: it was moved or repeated, or the files are not in order, the oldest first", l.Seq, v.last.Seq)
	default:
		v.problem("record %d does not follow from record %d, which was edited", l.Seq, v.last.Seq)
	}
	if !l.sound {
		v.problem("record %d was edited: its hash is of something else", l.Seq)
		return
	}
	if hash, known := v.known[anchor{l.Member, l.Seq}]; known {
		if hash != l.hash {
			v.problem("record %d is not the one that the cluster remembers: everything up to here may have been written anew", l.Seq)
			return
		}
		v.covered = l.Seq
	}
}

// Summary is what a Verifier has read.
type Summary struct {
	Records     uint64
	First, Last uint64 // numbers of records; 0: none
	Anchored    uint64 // the newest record that the cluster confirms; 0: none
}

// End looks at how the files end.
func (v *Verifier) End() Summary {
	if c := v.cut; c != nil {
		v.cut = nil
		if v.last.Seq > 0 && c.What == cutLine {
			v.Notes = append(v.Notes, Problem{c.File, c.Line, "the last line is cut, as a crash leaves it, or as it is while it is written"})
		} else {
			v.Problems = append(v.Problems, *c)
		}
	}
	v.line = 0
	for _, member := range slices.Sorted(maps.Keys(v.newest)) {
		if newest, last := v.newest[member], v.seen[member]; newest > last {
			v.problem("the end is cut: the cluster remembers record %d of member %s, and the last one here is %d", newest, member, last)
		}
	}
	if v.records == 0 {
		v.problem("there are no records")
	} else if v.Anchors != nil && v.covered == 0 {
		v.problem("the cluster confirms none of the records: it is another cluster, or they were written anew, or all are from less than a minute before the member ended, or too old")
	}
	return Summary{Records: v.records, First: v.first, Last: v.last.Seq, Anchored: v.covered}
}
