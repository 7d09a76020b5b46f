package member

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/protobuf/proto"

	"github.com/conclave-kv/conclave/auth"
	"github.com/conclave-kv/conclave/auth/token"
	"github.com/conclave-kv/conclave/internal/conclavepb"
	"github.com/conclave-kv/conclave/raftstore/fsm"
)

// No text but a token itself stands for its user: not its hash, nor one that is
// like it.
func FuzzMember_identify(f *testing.F) {
	m := startCluster(f, 1)[0]
	const good = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8" // as token.New makes them
	hash := token.Hash(good)
	agree := func(kind fsm.Kind, msg proto.Message) {
		if _, err := m.proposer.do(limited(f), fsm.Origin{}, kind, msg); err != nil {
			f.Fatal(err)
		}
	}
	agree(fsm.KindUserAdd, &pb.AuthUserAddRequest{Name: "root", HashedPassword: base64.StdEncoding.EncodeToString([]byte("x"))})
	agree(fsm.KindRoleAdd, &pb.AuthRoleAddRequest{Name: "root"})
	agree(fsm.KindUserGrantRole, &pb.AuthUserGrantRoleRequest{User: "root", Role: "root"})
	agree(fsm.KindAuthEnable, &pb.AuthEnableRequest{})
	now := time.Now()
	if _, err := m.proposer.do(limited(f), fsm.ByMember, fsm.KindTokenIssue, &conclavepb.TokenIssue{
		Hash: hash[:], User: "root", Credential: m.View().Auth.User("root").Credential(),
		Deadline: now.Add(24 * time.Hour).UnixMilli(), Now: now.UnixMilli(),
	}); err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{
		good, "", " ", "root", good + "=", good + "\x00", good[:len(good)-1], strings.ToLower(good), "Bearer " + good,
		string(hash[:]), base64.RawURLEncoding.EncodeToString(hash[:]), "eyJhbGciOiJub25lIn0.eyJ1c2VybmFtZSI6InJvb3QifQ.", "\xff\xfe", strings.Repeat("A", 1<<16),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := m.Identify(t.Context(), text)
		switch {
		case text == good && (err != nil || id.User != "root"):
			t.Errorf("the token: %v, %v", id, err)
		case text != good && !errors.Is(err, auth.ErrInvalidToken):
			t.Errorf("%q: %v, %v", text, id, err)
		}
	})
}
