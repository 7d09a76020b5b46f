package main

import (
	"slices"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"
)

func TestSplitQuoted_words(t *testing.T) {
	for line, want := range map[string][]string{
		`put a b`:               {"put", "a", "b"},
		`  put	"a b"  'c "d"' `: {"put", "a b", `c "d"`},
		`put "a\n\"b\x01" ''`:   {"put", "a\n\"b\x01", ""},
		`put it's fine`:         {"put", "it's", "fine"},
	} {
		got, err := splitQuoted(line)
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: got %q, %v, want %q", line, got, err, want)
		}
	}
	for _, line := range []string{`put "a`, `put 'a`, `put "a\"`} {
		if got, err := splitQuoted(line); err == nil {
			t.Errorf("%s: got %q, want an error", line, got)
		}
	}
}

func TestParseCompare_targets(t *testing.T) {
	for line, want := range map[string]*pb.Compare{
		`c("k") = "1"`:       {Key: []byte("k"), Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 1}},
		`create("k") != "1"`: {Key: []byte("k"), Result: pb.Compare_NOT_EQUAL, Target: pb.Compare_CREATE, TargetUnion: &pb.Compare_CreateRevision{CreateRevision: 1}},
		`m("k")<"2"`:         {Key: []byte("k"), Result: pb.Compare_LESS, Target: pb.Compare_MOD, TargetUnion: &pb.Compare_ModRevision{ModRevision: 2}},
		`ver( "k") > "3"`:    {Key: []byte("k"), Result: pb.Compare_GREATER, Target: pb.Compare_VERSION, TargetUnion: &pb.Compare_Version{Version: 3}},
		`val("a\"b") = "c)"`: {Key: []byte(`a"b`), Target: pb.Compare_VALUE, TargetUnion: &pb.Compare_Value{Value: []byte("c)")}},
		`lease("k") = "1f"`:  {Key: []byte("k"), Target: pb.Compare_LEASE, TargetUnion: &pb.Compare_Lease{Lease: 31}},
	} {
		got, err := parseCompare(line)
		if err != nil {
			t.Errorf("%s: %v", line, err)
			continue
		}
		if have := got.GetCompare(); !proto.Equal(have, want) {
			t.Errorf("%s: got %v, want %v", line, have, want)
		}
	}
	for _, line := range []string{
		``, `mod`, `mod("k" = "1"`, `mod("k") "1"`, `mod("k") = 1`, `mod("k") = "x"`, `mod("k") = "1" or`, `size("k") = "1"`, `mod("k") == "1"`, `mod(k) = "1"`,
	} {
		if got, err := parseCompare(line); err == nil {
			t.Errorf("%s: got %v, want an error", line, got)
		}
	}
}
